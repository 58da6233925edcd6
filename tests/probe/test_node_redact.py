# SPDX-License-Identifier: Apache-2.0
"""No secret that is known here leaves the node: planted ones of every kind and in every place, hostile texts, bounded time."""

from __future__ import annotations

import json
import random
import re
import time

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from fleet_audit.probe.node.redact import KINDS, RULES, kind_of, redact, redact_arguments, redact_argv, redact_bytes
from fleet_audit.probe.node.values import pruned

_random = random.Random(20261125)
_LETTERS = "ABCDEFGHJKLMNPQRSTUVWXYZabcdefghjkmnpqrstuvwxyz23456789"


def _made(count: int, letters: str = _LETTERS) -> str:
    """Characters of a token that nobody ever issued."""
    return "".join(_random.choice(letters) for _ in range(count))


# synthetic: the shapes that the issuers document; no token here was ever valid
TOKENS = {
    "huggingface": f"hf_{_made(34)}",
    "wandb": f"wandb_v1_{_made(60)}",
    "github": f"ghp_{_made(36)}",
    "gitlab": f"glpat-{_made(20)}",
    "nvidia": f"nvapi-{_made(64)}",
    "anthropic": f"sk-ant-api03-{_made(80)}",
    "openai": f"sk-proj-{_made(48)}",
    "aws": f"AKIA{_made(16, 'ABCDEFGHJKLMNPQRSTUVWXYZ234567')}",
    "google": f"AIza{_made(35)}",
    "slack": f"xoxb-{_made(12, '0123456789')}-{_made(24)}",
    "pypi": f"pypi-{_made(90)}",
    "other": f"dckr_pat_{_made(27)}",
    "jwt": f"eyJ{_made(30)}.eyJ{_made(60)}.{_made(43)}",
    "kaggle": f"KGAT_{_made(32)}",
    "hash": f"$6${_made(16)}${_made(86)}",
    "private-key": f"-----BEGIN OPENSSH PRIVATE KEY-----\n{_made(70)}\n{_made(70)}\n-----END OPENSSH PRIVATE KEY-----",
}
BARE = [
    "{}", "see {} there", "x={}", "('{}')", "[{}]", "TOKEN_{}", '{{"a": "{}"}}', "a\n{}\nb", "curl https://host/{}", "// {}", "--x={}",
]  # fmt: skip
"""Places that say nothing: a token must betray itself."""
PLACES = [
    "password={}", "password = {}\n", "PASSWORD: {}", "export API_KEY={}", "API_KEY='{}'", 'DB_PASSWORD="{}"', "  secret_key = {}  # why",
    "c.ServerApp.token = '{}'", 'c.ServerApp.password = u"{}"', "c.JupyterHub.api_tokens = {{'{}': 'someone'}}", "c.X.password = passwd('{}')",
    "c.X.secret = '''{}'''", '{{"password": "{}"}}', '{{"auths": {{"reg.example": {{"auth": "{}"}}}}}}', '{{"token":"{}","x":1}}',
    '{{"tokens": ["a", "{}"]}}', "tokens: [{}, b]", "password: |\n  {}\nnext: 1", "password: >-\n  {}\n", "- password: {}", "password:    '{}'",
    "requirepass {}", 'requirepass "{}"', "masterauth {} x", "bindpw {}", "ldap_default_authtok = {}", "user default on >{} ~* +@all",
    "user default on nopass #{} ~*", "machine h.example login u password {}", "machine h\n login u\n password {}\n", "machine h password {} login u",
    "postgresql://u:{}@db/x", "redis://:{}@h:1/0", "amqp://u:a/{}@h", "https://{}0123456789abcdef@github.com/x", "https://u:p@{}@h/",
    "sql_alchemy_conn = mysql://u:{}@h/x", "Authorization: Bearer {}", "Authorization: token {}", "Authorization: Basic {}", "authorization={}",
    "Cookie: a=b; session={}", "-H 'X-Api-Key: {}'", "ExecStart=/bin/x --api-key {} --port 1", "ExecStart=/bin/x --api-keys a {} --port 1",
    "ExecStart=/bin/x --token={}", 'Environment="A=b" "SECRET=x {}"', "Environment=A=b HF_TOKEN={} C=d", "sshpass -p {} ssh h", "mysql -u r -p{} x",
    "redis-cli -h h -a {} ping", "curl -u me:{} http://h", "curl --user=me:{} http://h", "<password>{}</password>",
    "<property><name>x.password</name>\n<value>{}</value></property>", "client-key-data: {}", "aws_secret_access_key = {}", "psk={}", "DSN={}",
    "AccountKey={};EndpointSuffix=x", "Server=x;Password={};Database=y", "host=h password={} dbname=y", "npm _auth={}", "//registry/:_authToken={}",
    "password=a\\ {}", "password=ab\"{}\"", "password={}'s", "secret := `{}`", "token => '{}'", "kv['api_key'] = '{}'", "WANDB_API_KEY={},x",
    "curl -u 'me:{}' http://h", 'curl -u "me:{} x" h', "curl -su me:{} h", "curl -U me:{} -x p h", "docker login -u me -p {} reg",
    "openssl enc -k {} -in x",
    "mongosh -u a -p {} h", "mc alias set s3 https://h me {}", "mc config host add s3 https://h me {}", "JWT={}", "OPENAI_KEY={}", "service_key: {}",
    "license_key={}", "wpa_psk={}", "https://h/x?sv=1&sig={}", 'tls(key-file("/k") password("{}"))', "action :ommysql:h,db,me,{}",
    "*.* >h,db,me,{};T",
    "cloud.auth = {}", "netroot=iscsi:me:{}@10.0.0.1::3260::iqn.x", "//nas/s /mnt cifs username=me%{},rw 0 0", "crypto pw {}",
    "crypto randfile /r pw {}",
]  # fmt: skip
SECRETS = st.text(alphabet=_LETTERS, min_size=10, max_size=40).filter(lambda s: not s.isalpha())
NOISE = st.text(alphabet=st.characters(codec="utf-8", exclude_categories=()), max_size=60) | st.sampled_from(
    [
        "",
        "password",
        "password=",
        "'",
        '"',
        "[",
        "token: [",
        "secret={",
        "://",
        "a://b@",
        "<secret:value:3>",
        "user x >",
        "#",
        "\\",
        "-----BEGIN ",
    ]
)


@pytest.mark.parametrize("kind", TOKENS)
@pytest.mark.parametrize("place", BARE)
def test_known_tokens_betray_themselves_anywhere(kind: str, place: str) -> None:
    found = redact(place.format(TOKENS[kind]))
    assert f"<secret:{kind}:" in found and TOKENS[kind][10:] not in found
    assert kind_of(TOKENS[kind]) == kind


@pytest.mark.parametrize("place", PLACES)
@given(secret=SECRETS, before=NOISE, after=NOISE)
@example(secret="hunter2xyz", before="", after="")
@example(secret="correcthorse1", before="[section]", after="# end")
def test_secrets_behind_a_name_never_survive(place: str, secret: str, before: str, after: str) -> None:
    assume(secret not in before + after + place)
    found = redact(f"{before}\n{place.format(secret)}\n{after}")
    assert secret not in found and "<secret:" in found


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("kind", ["huggingface", "jwt", "hash", "openai"])
def test_known_tokens_behind_a_name_never_survive_in_part(place: str, kind: str) -> None:
    token = TOKENS[kind]
    found = redact(place.format(token))
    assert not any(token[at : at + 8] in found for at in range(len(token) - 8))


ARGVS = [
    ["vllm", "serve", "m", "--api-key", "{}"], ["vllm", "serve", "m", "--api-key={}", "--port", "1"], ["x", "--api-key", "a", "{}", "--port", "1"],
    ["x", "--token", "two {}"], ["sh", "-c", "TOKEN={} exec x"], ["env", "HF_TOKEN={}", "x"], ["docker", "run", "-e", "PASSWORD={}", "i"],
    ["java", "-Dx.password={}", "-jar", "y"], ["curl", "-H", "Authorization: token {}"], ["curl", "-u", "me:{}", "h"], ["curl", "https://u:{}@h/"],
    ["sshpass", "-p", "{}", "ssh", "h"], ["sshpass", "-p{}", "ssh"], ["sudo", "mysql", "-p{}"], ["/usr/bin/redis-cli", "-a", "{}"],
    ["ipmitool", "-H", "h", "-P", "{}", "mc"], ["ldapsearch", "-w", "{}"], ["x", '--json={{"token": "{}"}}'], ["x", '{{"password": "{}"}}'],
    ["python", "-c", "login(token='{}')"], ["ray", "start", "--redis-password", "{}"], ["redis-server", "--requirepass", "{}"],
    ["x", "--secret={}=="],    ["wget", "--http-password={}", "u"], ["jupyter", "lab", "--ServerApp.token={}"],
    ["x", "--tokens", "{}", "{}"], ["y", "--passphrase", "{} {}"], ["curl", "-su", "me:{}", "h"], ["curl", "-U", "me:{}", "h"],
    ["docker", "login", "-p", "{}"], ["openssl", "enc", "-k", "{}"], ["mongosh", "-p", "{}"], ["mc", "alias", "set", "s3", "https://h", "me", "{}"],
    ["smbclient", "-U", "me%{}", "//h/s"], ["x", "JWT={}"], ["x", "-p", "me:{}"],
]  # fmt: skip


@pytest.mark.parametrize("argv", ARGVS)
@given(secret=SECRETS)
@example(secret="hunter2xyz")
def test_secrets_in_command_lines_never_survive(argv: list[str], secret: str) -> None:
    assume(not any(secret in word for word in argv))
    given_words = [word.format(secret, secret) for word in argv]
    found = redact_argv(list(given_words))
    assert not any(secret in word for word in found) and any("<secret:" in word for word in found)
    assert len(found) == len(given_words), "words keep their places"
    assert redact_argv(list(found)) == found


@pytest.mark.parametrize("value", ["8080:80", "127.0.0.1:8080:80/tcp", "[::1]:8080:80", "/srv:/data", "22", "user"])
def test_ports_and_paths_behind_a_flag_that_may_name_a_password_stay(value: str) -> None:
    assert redact_argv(["docker", "run", "-p", value, "x"]) == ["docker", "run", "-p", value, "x"]


@given(
    st.lists(st.text(max_size=20) | st.sampled_from(["--api-key", "-p", "sshpass", "--token=", "-u", "a:b", "password=x", ""]), max_size=8)
)
def test_command_lines_keep_their_number_of_words(words: list[str]) -> None:
    found = redact_argv(list(words))
    assert len(found) == len(words)
    assert redact_argv(list(found)) == found


_PIECES = st.sampled_from([
    "password", "token", "=", ": ", "'", '"', "\n", " ", "[", "]", "{", "}", "(", ")", "a", "secret", "\\", "#", "<secret:value:3>", "://", "@", ":",
    "Authorization", "Bearer ", "Cookie: ", "user ", ">x", "-u ", "sshpass -p ", "hf_aaaaaaaaaaaaaaaaaaaa", "$6$salt$abcdefghijkl", "|", "  ",
    "api_keys",    "<password>", "</", "eyJhbGciOiJI", ".eyJzdWIiOiIx", "true", "os.environ", "$HOME", "-----BEGIN PRIVATE KEY-----",
    "-----END PRIVATE KEY-----", "é",
])  # fmt: skip


@given(st.lists(_PIECES, max_size=14).map("".join))
@example("c.X.password = u'sha1:abcdef123456:0123456789abcdef0123456789abcdef01234567'")
def test_redacting_again_changes_nothing(text: str) -> None:
    once = redact(text)
    assert redact(once) == once


@given(st.text(max_size=200) | st.lists(_PIECES, max_size=20).map("".join))
def test_texts_without_a_hint_are_what_they_were_and_nothing_raises(text: str) -> None:
    found = redact(text)
    if not any(rule.hinted(text.lower()) for rule in RULES):
        assert found == text


@given(st.binary(max_size=200))
def test_bytes_that_are_no_text_survive(data: bytes) -> None:
    assert isinstance(redact_bytes(data), bytes)
    assert redact_bytes(b"\xff\xfe plain \x80") == b"\xff\xfe plain \x80"
    assert b"hunter2xyz" not in redact_bytes(b"\xff password=hunter2xyz \x80\n" + data)


def test_every_kind_has_a_hint() -> None:
    for kind, token in TOKENS.items():
        assert any(rule.hinted(token.lower()) for name, rule in KINDS if name == kind), kind
    assert {kind for kind, _ in KINDS} <= set(TOKENS)


KEPT = [
    "password sufficient pam_unix.so sha512 shadow nullok", "PASS_MAX_DAYS\t99999", "PasswordAuthentication no", "disable_token_authorization=true",
    "c.ServerApp.token = ''", "c.ServerApp.password = ''  # none", "--max-num-batched-tokens 8192", "max_tokens: 4096", "tokenizer=org/model",
    "token_ttl=30", "passwd_timeout=0", "ssl_keyfile_password_file=/etc/x", "password_file: /etc/x", "user default on nopass ~* +@all",
    "inference_address=http://0.0.0.0:8080", "https://host:8080/a@b", "git+https://user@host/x", "docker run -p 8080:80 -u 1000:1000 x",
    "API_KEY=${API_KEY}", "API_KEY=$API_KEY", "c.X.token = os.environ['TOKEN']", "compass=north", "bypass: x", "Cookies are off",
    "sk-ssh-ed25519@openssh.com", "sk-ecdsa-sha2-nistp256-cert-v01@openssh.com,ssh-ed25519", "public_key=abc", "gpgkey=https://h/RPM-GPG-KEY",
    "authorization:\n  mode: Webhook\n  webhook:\n    cacheAuthorizedTTL: 0s", "authorization: {mode: AlwaysAllow}",
    '{"authorization": {"mode": "Webhook"}}', "//nas/d /mnt cifs credentials=/etc/cifs-cred,seal 0 0",
    "ssh_host_rsa_key", "HostKey /etc/ssh/ssh_host_ed25519_key", "primary_key: id", "TLS_PSK_WITH_AES_128_CBC_SHA", "ssl_key=/etc/ssl/private/x.key",
]  # fmt: skip


@pytest.mark.parametrize("text", KEPT)
def test_what_is_no_secret_stays(text: str) -> None:
    assert redact(text) == text


ARGUMENTS = [  # of commands in sudoers and in PAM's files
    "me ALL = /usr/bin/curl -u me\\:{} h",
    "me ALL = /bin/x -p {}",
    "me ALL = /bin/x --pass {}",
    "me ALL = NOPASSWD: /bin/x PASS\\={}",
    "me ALL = /bin/x --authkey {}",
    "me ALL = /bin/x -H Authorization\\: Bearer {}",
    'me ALL = /bin/x -H "Authorization: Bearer {}"',
    "me ALL = /bin/x pass={}",
    "me ALL = /bin/x key={}",
    "# me ALL = /bin/x --token={}",
    "auth optional pam_x.so secret={}",
    "auth [success=1 default=ignore] pam_ldap.so bindpw={}",
    "me ALL = /bin/x a, /bin/y --password {}, /bin/z",
    "me ALL = /usr/bin/mysql -p{}",
    "me ALL = /bin/x https\\://u\\:{}@h/",
]


@pytest.mark.parametrize("text", ARGUMENTS)
@given(secret=SECRETS)
@example(secret="hunter2xyz")
def test_secrets_in_arguments_never_survive(text: str, secret: str) -> None:
    assume(secret not in text)
    found = redact_arguments(text.format(secret))
    assert secret not in found and "<secret:" in found


KEPT_ARGUMENTS = [
    "Cmnd_Alias PASSWD = /usr/bin/passwd, !/usr/bin/passwd root",
    "me ALL = NOPASSWD: /usr/bin/ssh -p 2222 h",
    "Defaults passwd_tries=3,targetpw",
    "account [success=1 new_authtok_reqd=done authtok_err=bad default=ignore] pam_unix.so",
    "password requisite pam_pwquality.so retry=3 authtok_type=",
    "me ALL = /usr/bin/docker run -p 8080\\:80 x",
    "me ALL = /bin/mkdir -p /srv/x",
    "auth required pam_u2f.so authfile=/etc/u2f_keys cue",
    "me ALL = /usr/bin/passwd [A-Za-z]*, !/usr/bin/passwd *root*",
    "Defaults:me !requiretty, passprompt=x",
    "PasswordAuthentication no",
    "me ALL = sha256\\:aa= /bin/x",
    "auth sufficient pam_ssh_agent_auth.so file=/etc/security/authorized_keys",
]


@pytest.mark.parametrize("text", KEPT_ARGUMENTS)
def test_arguments_that_are_no_secret_stay(text: str) -> None:
    assert redact_arguments(text) == text


def test_defaults_that_everybody_knows_are_named_so() -> None:
    assert redact("admin_password = password1234\n") == "admin_password = <secret:default:12>\n"
    assert redact_argv(["x", "--secret-key", "minioadmin"]) == ["x", "--secret-key", "<secret:default:10>"]
    assert redact("password = Tr0ub4dor") == "password = <secret:value:9>"


def test_structure_around_a_secret_stays_where_it_can() -> None:
    text = '{"a": 1, "password": "x y", "next": {"api_key": "z", "port": 5}}'
    assert json.loads(redact(text)) == {"a": 1, "password": "<secret:value:3>", "next": {"api_key": "<secret:value:1>", "port": 5}}
    assert redact("requirepass foo\nport 6379\n") == "requirepass <secret:value:3>\nport 6379\n"
    assert redact('Environment="A=1" "API_KEY=b c" D=2') == 'Environment="A=1" "API_KEY=<secret:value:3>" D=2'


# Each of these, repeated, made an earlier version quadratic or looks as if it could.
SEEDS = [
    "token", "token=", "eyJ-", "eyJ", "sk-", "sk-a-", "-----BEGIN ", "-----BEGIN PRIVATE KEY-----", "://", "://a:", 'password="\\"', "password=[",
    '["\\"', '"password":"x",', 'password=("\\', "user a >b ", "mysql -p ", "<name>", "<pass>", "cookie:", "authorization: a ", "$1$", "sha1:aaaaaa:",
    "hf_", "password: |\n", "password:\n ", "pass=$", "PASS_", "a.", "bearer ", "-u a:", "password ", "LS0tLS1CRUdJTiBQ", '"key":"', "{password={",
    "'", '"', "password='''", "api_keys: [a,", "token=\\", "password: - ", "token token=' ", "<secret:value:1>", "pass\0", " ",
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS)
def test_time_is_bounded_by_the_length(seed: str) -> None:
    size = 1 << 17
    texts = [
        seed * (size // len(seed)),
        f"{seed}\n" * (size // (len(seed) + 1)),
        "password=[" + seed * (size // len(seed)),
        seed + "a" * size,
    ]
    begin = time.process_time()
    for text in texts:
        redact(text)
        redact_arguments(text)
    redact_argv([seed] * (size // 8))
    # 0.7 s is what the slowest takes here; a quadratic one takes minutes. CPU time does not depend on others' load.
    assert time.process_time() - begin < 8


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=9),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5) | st.sampled_from(["password", "token", "auth", "x"]), inner)
    ),
)


@given(JSON, SECRETS)
def test_json_values_lose_their_secrets_by_their_names(document: object, secret: str) -> None:
    assume(secret not in json.dumps(document))
    planted = {
        "x": document,
        "password": secret,
        "deep": [{"api_key": secret, "tokens": [secret]}],
        "auth": secret,
        "url": f"https://u:{secret}@h",
    }
    found = pruned(planted)
    assert secret not in json.dumps(found)
    assert found["deep"][0]["api_key"] == f"<secret:value:{len(secret)}>"
    assert pruned(secret, "c.token") != secret and pruned(secret, "c.name") == secret


def test_json_values_that_are_no_secret_stay() -> None:
    document = {"port": 1, "auth": True, "token": None, "name": "x", "list": ["a", {"password_file": "/x"}], "tokenTTL": 3}
    assert pruned(document) == document
    assert re.fullmatch(r"<secret:default:\d+>", pruned({"password": "admin"})["password"])
