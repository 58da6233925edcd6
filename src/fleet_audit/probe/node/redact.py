# SPDX-License-Identifier: Apache-2.0
"""Takes secrets out of texts before they leave the node: `<secret:KIND:LENGTH>` stands in their place."""

import re

WORD = re.compile(
    r"(?i)(?<!by)pass(?:word|wd|phrase|code)?s?(?![a-z])|passwd|pwd(?![a-z])|secret|token|api[_-]?key|access[_-]?key|account[_-]?key|"
    r"private[_-]?key|auth[_-]?key|session[_-]?key|encryption[_-]?key|credential|requirepass|masterauth|bindpw|rootpw|\bpsk|"
    r"authorization|auth_string|connection[_-]?string|\bdsn\b|sql_alchemy_conn|fernet_key|cookie"
)
TOKENS = (
    ("private-key", r"-----BEGIN [A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?-----.*?(?:-----END [A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?-----|\Z)"),
    ("huggingface", r"\b(?:hf|api_org)_[A-Za-z0-9]{16,}"),
    ("github", r"\b(?:gh[pousr]_[A-Za-z0-9]{20,}|github_pat_[A-Za-z0-9_]{20,})"),
    ("gitlab", r"\bgl(?:pat|dt|rt|ptt|cbt|oas)-[A-Za-z0-9_.-]{16,}"),
    ("nvidia", r"\bnvapi-[A-Za-z0-9_-]{16,}"),
    ("anthropic", r"\bsk-ant-[A-Za-z0-9_-]{16,}"),
    ("openai", r"\bsk-[A-Za-z0-9_-]{16,}"),
    ("aws", r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b"),
    ("google", r"\bAIza[A-Za-z0-9_-]{30,}|\bya29\.[A-Za-z0-9_-]{20,}"),
    ("slack", r"\bxox[abeoprs]-[A-Za-z0-9-]{10,}|https://hooks\.slack\.com/services/[A-Za-z0-9/]+"),
    ("pypi", r"\bpypi-[A-Za-z0-9_-]{16,}"),
    ("jwt", r"\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}(?:\.[A-Za-z0-9_-]*)?"),
    (
        "hash",
        r"\$(?:1|2[abxy]?|5|6|7|y|gy|argon2i?d?|scrypt)\$[^\s:'\"]{8,}|\bargon2:\$?[^\s'\"]{16,}|\b(?:sha1|sha256|sha512):[0-9a-f]{6,}:[0-9a-f]{20,}",
    ),
)
DEFAULTS = (
    "password1234",
    "minioadmin",
    "password",
    "admin",
    "changeme",
    "12341234",
    "postgres",
    "root",
    "secret",
    "guest",
    "test",
    "mlflow",
)
HARMLESS = re.compile(
    r"(?i)(?:true|false|yes|no|on|off|none|null|nil|auto|default|optional|required|enabled?|disabled?|never|always|basic|"
    r"bearer|digest|keyfile|prompt|files?|systemd|sss|kerberos|munge|jwt|local|auth/\w+|cred/\w+|<secret:[\w-]+:\d+>|"
    r"\$\{?[A-Za-z_]\w*\}?|os\.environ.*|<[a-z-]+>)?"
)
OF_A_FILE = re.compile(r"(?i)(?:file|path|dir|folder|pem|crt|cert)$")
NO_SECRET = re.compile(
    r"(?i)(?:^|[_.-])(?:type|mode|class|ttl|timeout|lifetime|expiry|expires?|length|len|min|max|name|header|url|uri|policy|provider|count|rounds)$"
)
KEY = re.compile(r"[\w.-]*")
SEPARATOR = re.compile(r"""["']?\]?[ \t]*(?:=>|:=|[=:])[ \t]*(?:[bBrRfFuU]{1,2}(?=["']))?""")
BLANK = re.compile(r"[ \t\0]+(?!-)")
VALUE = re.compile(r"""<secret:[\w-]+:\d+>|"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*'|[^\s\0,;"'#}\])]+""")
BEARER = re.compile(r"(?i)\b((?:bearer|basic)\s+)([A-Za-z0-9+/=_.~-]{8,})")
URL = re.compile(r"://([^\s\0/'\"<>@]{1,512})@")
KINDS = tuple((kind, re.compile(pattern, re.S)) for kind, pattern in TOKENS)
STAND_IN = re.compile(r"(<secret:[\w-]+:\d+>)")
HINTS = (
    "pass pwd secret token key cred auth bindpw rootpw psk conn dsn cookie :// hf_ api_org_ gh github_ gl nvapi- sk- akia asia aiza ya29. xox "
    "pypi- eyj $ argon2 sha1 sha256 sha512 bearer basic"
).split()  # without one of them a text holds no secret that is known here
KEY_LIMIT = 80  # characters that a key may have before and after its decisive word


def kind_of(value):
    """What a secret looks like: a known kind of token, a publicly known default, or `value`."""
    for kind, pattern in KINDS:
        if pattern.match(value):
            return kind
    return "default" if value.lower() in DEFAULTS else "value"


def reduced(value):
    """A secret's stand-in."""
    return "<secret:%s:%d>" % (kind_of(value), len(value))


def is_secret(key, value):
    """Whether what is assigned to a key of this name is one."""
    if not value or HARMLESS.fullmatch(value) or NO_SECRET.search(key):
        return False
    return not (OF_A_FILE.search(key) and "://" not in value)


def assigned(words):
    """A text with what stands behind a key that names a secret reduced. Its work is bounded by the text's length."""
    out, done = [], 0
    for match in WORD.finditer(words):
        if match.start() < done:
            continue
        begin = max(done, match.start() - KEY_LIMIT)
        head = re.search(r"[\w.-]*$", words[begin : match.start()]).group(0)
        end = KEY.match(words, match.end(), match.end() + KEY_LIMIT).end()
        key = head + words[match.start() : end]
        between = SEPARATOR.match(words, end)
        if not between and (
            key.startswith("-") or words[match.start() - len(head) - 1 : match.start() - len(head)] in ("", "\n", " ", "\t")
        ):
            between = BLANK.match(words, end)
            if (
                between
                and not key.startswith("-")
                and not re.match(r"\S+[ \t]*(?:$|\n|machine |login |account )", words[between.end() : between.end() + 300])
            ):
                between = None
        value = between and VALUE.match(words, between.end())
        if not value:
            continue
        bare = value.group(0)
        quote = bare[0] if bare[0] in "\"'" else ""
        bare = bare[1:-1] if quote else bare
        if is_secret(key, bare):
            out += [words[done : between.end()], quote, reduced(bare), quote]
            done = value.end()
    return "".join(out) + words[done:]


def in_url(match):
    """The user of a URL without the password, or what stands in a user's place alone."""
    user, colon, value = match.group(1).partition(":")
    if colon:
        return "://" + user + ":" + (reduced(value) if value else "") + "@"
    return "://" + (user if len(user) < 16 else reduced(user)) + "@"


def redact(words):
    """A text without its secrets."""
    lowered = words.lower()
    if not any(hint in lowered for hint in HINTS):
        return words
    words = URL.sub(in_url, words)
    for kind, pattern in KINDS:
        words = pattern.sub(lambda match, kind=kind: "<secret:%s:%d>" % (kind, len(match.group(0))), words)
    words = "".join(part if part.startswith("<secret:") else assigned(part) for part in STAND_IN.split(words))
    return BEARER.sub(lambda match: match.group(1) + reduced(match.group(2)), words)


def redact_bytes(data):
    """Bytes without the secrets of the text in them."""
    return redact(data.decode("utf-8", "surrogateescape")).encode("utf-8", "surrogateescape")


def redact_argv(words):
    """The words of a command line without their secrets, those that are words of their own included."""
    out = redact("\0".join(words)).split("\0")
    for place, word in enumerate(out[:-1]):
        if word in ("-u", "--user", "-p") and ":" in out[place + 1]:
            user, _, value = out[place + 1].partition(":")
            out[place + 1] = user + ":" + (value if HARMLESS.fullmatch(value) else reduced(value))
    return out
