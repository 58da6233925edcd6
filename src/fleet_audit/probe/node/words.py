# SPDX-License-Identifier: Apache-2.0
"""What secrets and the names of secrets look like, and what only looks so."""

import re


class Rule:
    """A pattern with its hints: a text in which it fits holds one of these words (parted by `|`), in any case."""

    def __init__(self, hints, pattern, flags=0):
        self.hints, self.source, self.flags, self.compiled = hints.split("|"), pattern, flags, None

    @property
    def pattern(self):
        """Compiled when it is first needed: few nodes need all."""
        if self.compiled is None:
            self.compiled = re.compile(self.source, self.flags)
        return self.compiled

    def sub(self, how, words, lowered):
        """A text with what fits replaced; `lowered` is it in lower case, from before what was reduced since."""
        return self.pattern.sub(how, words) if self.hinted(lowered) else words

    def hinted(self, lowered):
        """Whether the pattern may fit."""
        for hint in self.hints:  # a loop: a generator costs more than all it asks
            if hint in lowered:
                return True
        return False


WORD = Rule(
    "pass|pwd|secret|token|key|cred|auth|bindpw|rootpw|psk|conn|dsn|cookie|jwt",
    r"(?i)(?=[abcdefjkmprst_])(?:"  # their first letters: most places fail fast
    r"(?<!by)(?<!com)pass(?:word|wd|phrase|code)?s?(?![a-z])|passwd|pwd(?![a-z])|secret(?!:[\w-]+:\d+>)|token(?!iz)|api[_-]?key|access[_-]?key|account[_-]?key|"
    r"(?<!<secret:)private[_-]?key|auth[_-]?key|session[_-]?key|encryption[_-]?key|shared[_-]?key|key-data|credential|requirepass|masterauth|bindpw|"
    r"rootpw|authtok|(?<![a-z!])psk(?!\w?[_-](?:with|aes|chacha))|authorization|auth_string|connection[_-]?string|\bdsn\b|sql_alchemy_conn|fernet_key|cookie|"
    r"""(?<=["'])auth(?=["'])|(?<![a-z])_auth\b|(?<![\w.-])auth(?=[ \t]{0,9}=[ \t]{0,9}["'])|\bcloud[._]auth\b|"""
    r"(?<![a-z])jwt(?![\w-]|:\d+>)|(?<=[a-z0-9][_-])key\d{0,2}(?![\w.-]|:\d+>))",
)
TOKENS = (
    (
        "private-key", "-----begin",
        r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----.*?(?:-----END [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----|\Z)",
    ),
    ("huggingface", "hf_|api_org_", r"(?<![A-Za-z0-9])(?:hf|api_org)_[A-Za-z0-9]{16,}"),
    ("wandb", "wandb_v1_", r"(?<![A-Za-z0-9])wandb_v1_[A-Za-z0-9_]{16,}"),
    ("kaggle", 'key":|kgat_', r"""(?:(?<="key":)|(?<="key": ))"[0-9a-f]{32}"|(?<![A-Za-z0-9])KGAT_[A-Za-z0-9]{16,}"""),
    ("github", "ghp_|gho_|ghu_|ghs_|ghr_|github_pat_", r"(?<![A-Za-z0-9])(?:gh[pousr]_[A-Za-z0-9]{20,}|github_pat_[A-Za-z0-9_]{20,})"),
    ("gitlab", "glpat-|gldt-|glrt-|glptt-|glcbt-|gloas-", r"(?<![A-Za-z0-9])gl(?:pat|dt|rt|ptt|cbt|oas)-[A-Za-z0-9_.-]{16,}"),
    ("nvidia", "nvapi-", r"(?<![A-Za-z0-9])nvapi-[A-Za-z0-9_-]{16,}"),
    ("anthropic", "sk-ant-", r"(?<![A-Za-z0-9])sk-ant-[A-Za-z0-9_-]{16,}"),
    ("openai", "sk-", r"(?<![A-Za-z0-9])sk-(?!(?:ssh|ecdsa)-)[A-Za-z0-9_-]{16,}"),
    ("aws", "akia|asia", r"(?<![A-Za-z0-9])(?:AKIA|ASIA)[A-Z0-9]{16}(?![A-Za-z0-9])"),
    ("google", "aiza|ya29.|1//0", r"(?<![A-Za-z0-9])(?:AIza[A-Za-z0-9_-]{30,}|ya29\.[A-Za-z0-9_-]{20,}|1//0[A-Za-z0-9_-]{30,})"),
    ("slack", "xox|hooks.slack", r"(?<![A-Za-z0-9])xox[abeoprs]-[A-Za-z0-9-]{10,}|https://hooks\.slack\.com/services/[A-Za-z0-9/]+"),
    ("pypi", "pypi-", r"(?<![A-Za-z0-9])pypi-[A-Za-z0-9_-]{16,}"),
    ("other", "npm_|dckr_pat_|hvs.|dapi|gsk_|r8_|xai-", r"(?<![A-Za-z0-9])(?:npm_|dckr_pat_|hvs\.|dapi|gsk_|r8_|xai-)[A-Za-z0-9_-]{20,}"),
    ("jwt", "eyj", r"(?<![A-Za-z0-9])eyJ[A-Za-z0-9_-]{8,1024}\.[A-Za-z0-9_-]{8,}(?:\.[A-Za-z0-9_-]*)?"),
    ("private-key", "ls0tls1crudjtib", r"LS0tLS1CRUdJTiB[QSFP][A-Za-z0-9+/=]{40,}"),
    (
        "hash",
        "$1$|$2|$5$|$6$|$7$|$y$|$gy$|$md5$|$sha1$|$apr1$|$argon2|scrypt$|$bcrypt|$pbkdf2|{s|{md5}|{crypt}|{bcrypt}|{argon2}|{pbkdf2|"
        "pbkdf2:|pbkdf2_|scrypt:|scrypt_|argon2:|sha1:|sha256:|sha512:",
        r"\$(?:1|2[abxy]?|5|6|7|y|gy|md5|sha1|apr1|argon2i?d?|b?scrypt|bcrypt-sha256|pbkdf2(?:-sha\d{1,3})?)\$[^\s:'\"<>]{8,}|"
        r"(?<!\$)\{(?i:s?sha\d{0,3}|s?md5|crypt|bcrypt|argon2|pbkdf2[\w-]{0,9})\}[^\s'\"<>,;]{8,}|\b(?:pbkdf2|scrypt)[:_][\w:]{1,40}\$[^\s'\"<>]{16,}|"
        r"\bargon2:\$?[^\s'\"<>]{16,}|\b(?:sha1|sha256|sha512):[0-9a-f]{6,}:[0-9a-f]{20,}",
    ),
)  # fmt: skip
DEFAULTS = frozenset(
    "password1234 minioadmin password admin changeme 12341234 postgres root secret guest test mlflow temporary_key".split()
)
HARMLESS = re.compile(
    r"(?i)(?:true|false|yes|no|on|off|none|null|nil|auto|default|optional|required|enabled?|disabled?|never|always|basic|"
    r"bearer|digest|keyfile|prompt|files?|systemd|sss|kerberos|munge|jwt|local|auth/\w+|cred/\w+|<secret:[\w-]+:\d+>|"
    r"\$\{\w+\}|(?-i:\$[A-Z_][A-Z0-9_]*)|os\.environ.*|<[a-z-]+>)?"
)
OF_A_FILE = re.compile(r"(?i)(?:file|path|dir|folder|pem|crt|cert)$")
NO_SECRET = re.compile(
    r"(?i)(?:^|[_.-])(?:type|mode|class|ttl|timeout|lifetime|expiry|expires?|length|len|min|max|name|header|url|uri|policy|provider|count|"
    r"rounds|days|age|process|source|helpers?|store|message|tries|prompt)$|authtok_(?:reqd|err|recover\w{0,3}_err|lock_busy|disable_aging|expired)$|(?:^|[_.-])(?:public|pub|host|sort|primary|foreign|unique|partition|group|"
    r"cache|index|lookup|label|topology|routing|row|map|object|registry|gpg|trusted|authorized|verify|request|magic|shortcut)[_-]?key\d?$|"
    r"ssh_host_\w{1,20}_key$"
)
ANY_KEY = re.compile(r"(?i)(?:[_-]key\d{0,2}|credentials?)$")  # `credentials=/etc/cifs-cred` of mount.cifs(8) names a file
IS_PATH = re.compile(
    r"(?:\$\{?\w+\}?|~\w{0,32}|\.{1,2})/[\w./@%+*-]*|/(?:etc|var|run|usr|s?bin|lib|opt|home|root|srv|mnt|data|tmp|boot|proc|sys|dev)(?:/[\w./@%+*${}-]*)?|"
    r"[\w./~@%+-]+\.(?:pem|key|crt|cer|cert|pub|gpg|asc|der|jks|p12|pfx|jwks)"
)
KINDS = tuple((kind, Rule(hints, pattern, re.S)) for kind, hints, pattern in TOKENS)
