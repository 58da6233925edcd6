# SPDX-License-Identifier: Apache-2.0
"""Takes secrets out of texts before they leave the node: `<secret:KIND:LENGTH>` stands in their place.

Where it is in doubt it takes too much. Its work is bounded by the text's length.
"""

import re

WORD = re.compile(
    r"(?i)(?<!by)(?<!com)pass(?:word|wd|phrase|code)?s?(?![a-z])|passwd|pwd(?![a-z])|secret(?!:[\w-]+:\d+>)|token(?!iz)|api[_-]?key|access[_-]?key|account[_-]?key|"
    r"(?<!<secret:)private[_-]?key|auth[_-]?key|session[_-]?key|encryption[_-]?key|shared[_-]?key|key-data|credential|requirepass|masterauth|bindpw|"
    r"rootpw|authtok|\bpsk|authorization|auth_string|connection[_-]?string|\bdsn\b|sql_alchemy_conn|fernet_key|cookie|"
    r"""(?<=["'])auth(?=["'])|(?<![a-z])_auth\b|(?<![\w.-])auth(?=[ \t]{0,9}=[ \t]{0,9}["'])|fastopen_key"""
)
TOKENS = (
    ("private-key", r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----.*?(?:-----END [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----|\Z)"),
    ("huggingface", r"(?<![A-Za-z0-9])(?:hf|api_org)_[A-Za-z0-9]{16,}"),
    ("wandb", r"(?<![A-Za-z0-9])wandb_v1_[A-Za-z0-9_]{16,}"),
    ("kaggle", r"""(?:(?<="key":)|(?<="key": ))"[0-9a-f]{32}"|(?<![A-Za-z0-9])KGAT_[A-Za-z0-9]{16,}"""),
    ("github", r"(?<![A-Za-z0-9])(?:gh[pousr]_[A-Za-z0-9]{20,}|github_pat_[A-Za-z0-9_]{20,})"),
    ("gitlab", r"(?<![A-Za-z0-9])gl(?:pat|dt|rt|ptt|cbt|oas)-[A-Za-z0-9_.-]{16,}"),
    ("nvidia", r"(?<![A-Za-z0-9])nvapi-[A-Za-z0-9_-]{16,}"),
    ("anthropic", r"(?<![A-Za-z0-9])sk-ant-[A-Za-z0-9_-]{16,}"),
    ("openai", r"(?<![A-Za-z0-9])sk-[A-Za-z0-9_-]{16,}"),
    ("aws", r"(?<![A-Za-z0-9])(?:AKIA|ASIA)[A-Z0-9]{16}(?![A-Za-z0-9])"),
    ("google", r"(?<![A-Za-z0-9])(?:AIza[A-Za-z0-9_-]{30,}|ya29\.[A-Za-z0-9_-]{20,}|1//0[A-Za-z0-9_-]{30,})"),
    ("slack", r"(?<![A-Za-z0-9])xox[abeoprs]-[A-Za-z0-9-]{10,}|https://hooks\.slack\.com/services/[A-Za-z0-9/]+"),
    ("pypi", r"(?<![A-Za-z0-9])pypi-[A-Za-z0-9_-]{16,}"),
    ("other", r"(?<![A-Za-z0-9])(?:npm_|dckr_pat_|hvs\.|dapi|gsk_|r8_|xai-)[A-Za-z0-9_-]{20,}"),
    ("jwt", r"(?<![A-Za-z0-9])eyJ[A-Za-z0-9_-]{8,1024}\.[A-Za-z0-9_-]{8,}(?:\.[A-Za-z0-9_-]*)?"),
    ("private-key", r"LS0tLS1CRUdJTiB[QSFP][A-Za-z0-9+/=]{40,}"),
    (
        "hash",
        r"\$(?:1|2[abxy]?|5|6|7|y|gy|argon2i?d?|scrypt)\$[^\s:'\"<>]{8,}|\bargon2:\$?[^\s'\"<>]{16,}|\b(?:sha1|sha256|sha512):[0-9a-f]{6,}:[0-9a-f]{20,}",
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
    "temporary_key",
)
HARMLESS = re.compile(
    r"(?i)(?:true|false|yes|no|on|off|none|null|nil|auto|default|optional|required|enabled?|disabled?|never|always|basic|"
    r"bearer|digest|keyfile|prompt|files?|systemd|sss|kerberos|munge|jwt|local|auth/\w+|cred/\w+|<secret:[\w-]+:\d+>|"
    r"\$\{\w+\}|(?-i:\$[A-Z_][A-Z0-9_]*)|os\.environ.*|<[a-z-]+>)?"
)
OF_A_FILE = re.compile(r"(?i)(?:file|path|dir|folder|pem|crt|cert)$")
NO_SECRET = re.compile(
    r"(?i)(?:^|[_.-])(?:type|mode|class|ttl|timeout|lifetime|expiry|expires?|length|len|min|max|name|header|url|uri|policy|provider|count|"
    r"rounds|days|age|process|source|helpers?|store)$"
)
KEY = re.compile(r"[\w.-]*")
AT_START = re.compile(r"""[ \t]*(?:export[ \t]+|set[ \t]+|-[ \t]+)?["']?$""")
SEPARATOR = re.compile(r"""["']?\]?[ \t]*(?:=>|:=|[=:])[ \t]*(?:[bBrRfFuU]{1,2}(?=["']))?""")
BLANK = re.compile(r"[ \t]+(?!-)")
QUOTED = re.compile(r"""\"\"\".*?(?:\"\"\"|\Z)|'''.*?(?:'''|\Z)|"(?:[^"\\]|\\.){0,4096}"|'(?:[^'\\]|\\.){0,4096}'""", re.S)
BARE = re.compile(r"""(?:\\.|"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*'|["'][^\n]*|[^\s,;"'}\])\\]|\\)+""")
SCALAR = re.compile(
    r"""<secret:[\w-]+:\d+>|(["']?)((?<=")(?:[^"\\]|\\.)*(?=")|(?<=')(?:[^'\\]|\\.)*(?=')|[^\s,\[\]{}()"':=]+)\1(\s*:)?""", re.S
)
MARK = re.compile(r"""[\[({\])}"']""")
NAME = re.compile(r"[A-Za-z_-]{1,24}")
COMMENT = re.compile(r"[ \t]+[#;].*$")
SOLE_WORD = re.compile(r"\S+[ \t]*(?:$|\n|machine |login |account )")
SEVERAL = re.compile(r"(?i)(?:keys?|tokens|secrets|passwords|passwds|credentials)$")
REST_OF_LINE = re.compile(r"(?i)(?:requirepass|masterauth|bindpw|rootpw|authtok)$")
HEADER = re.compile(
    r"""(?i)\b((?:proxy-)?authorization["']?\s{0,3}[:=]\s{0,3}["']?(?:[A-Za-z-]{1,20}[ \t]+)?|(?:set-)?cookie["']?:[ \t]*["']?)([^\n"'\0]+)"""
)
BEARER = re.compile(r"(?i)\b((?:bearer|basic)\s{1,3})([A-Za-z0-9+/=_.~-]{8,})")
URL = re.compile(r"://([^\s\0/'\"<>@:]{0,256})((?::(?!\d{1,5}(?:/|$))(?:(?!://)[^\s\0'\"<>]){0,512})?)@")
XML = re.compile(
    r"(?i)(<((?!secret:)[\w.:-]{0,60}(?:pass|secret|token|key|credential)[\w.:-]{0,60})>\s{0,9}|"
    r"<name>[^<]{0,99}(?:pass|secret|token|key|credential)[^<]{0,99}</name>\s{0,99}<value>)([^<]+)(?=</)"
)
REDIS_USER = re.compile(r"(?m)^([ \t]*user[ \t]+\S+[ \t])(.*)$")
REDIS_WORD = re.compile(r"(?<!\S)([>#!]|<(?!secret:))(\S+)")
USER = re.compile(r"(?<!\S)(-u[ =]?|--(?:proxy-)?user[ =])(?!\d+:\d+(?!\S))([^\s:'\"<>]+):([^\s'\"<>]+)")
PROGRAMS = {"sshpass": "p", "redis-cli": "a", "valkey-cli": "a", "ipmitool": "P", "mysql": "p", "mysqldump": "p", "mysqladmin": "p"}
PROGRAMS.update({"mariadb": "p", "ldapsearch": "w", "ldapwhoami": "w", "ldapmodify": "w", "ldapadd": "w"})  # program: flag of a password
CALLS = re.compile(r"\b(%s)\b([^\n\0]*)" % "|".join(sorted(PROGRAMS, key=len, reverse=True)))
NUMBERS = re.compile(r"[\d.:/]+(?:tcp|udp)?")
KINDS = tuple((kind, re.compile(pattern, re.S)) for kind, pattern in TOKENS)
STAND_IN = re.compile(r"(<secret:[\w-]+:\d+>)")
HINTS = (
    "pass pwd secret token key cred auth bindpw rootpw psk conn dsn cookie :// hf_ api_org_ wandb_ gh glpat- gldt- glrt- glptt- glcbt- gloas- "
    "nvapi- sk- akia asia aiza ya29. 1//0 xox pypi- npm_ dckr_ hvs. dapi gsk_ r8_ xai- eyj ls0tls1 kgat_ $ argon2 sha1 sha256 sha512 bearer basic "
    "-u user redis valkey ipmitool mysql mariadb ldap"
).split()  # without one of them a text holds no secret that is known here
KEY_LIMIT = 80  # characters that a key may have before and after its decisive word
GROUP_LIMIT = 4096  # characters that a list may have


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
    if HARMLESS.fullmatch(value) or HARMLESS.fullmatch(value.strip("\"' ")) or NO_SECRET.search(key):
        return False
    if value.isdigit() and len(value) < 8 and key.lower().endswith("tokens"):
        return False  # a limit
    return not (OF_A_FILE.search(key) and "://" not in value)


def end_of_line(words, at):
    """Where the line ends."""
    end = words.find("\n", at)
    return len(words) if end < 0 else end


def group_at(words, at):
    """(where a list that begins here ends, whether that is its own bracket): else all within its limit belongs to it."""
    depth, place, last = 0, at, min(len(words), at + GROUP_LIMIT)
    while True:
        mark = MARK.search(words, place, last)
        if not mark:
            return last, False
        quoted = QUOTED.match(words, mark.start(), last) if mark.group(0) in "\"'" else None
        place = quoted.end() if quoted else mark.end()
        depth += (mark.group(0) in "[({") - (mark.group(0) in "])}")
        if depth == 0:
            return place, True


def block_end(words, at):
    """Where the indented lines of a YAML block end, whose key stands in the line of `at`."""
    begin = words.rfind("\n", 0, at) + 1
    indent = len(words[begin:at]) - len(words[begin:at].lstrip(" -"))
    end = end_of_line(words, at)
    while end < len(words):
        after = end_of_line(words, end + 1)
        line = words[end + 1 : after]
        if line.strip() and len(line) - len(line.lstrip(" ")) <= indent:
            break
        end = after
    return end


def in_group(key):
    """What takes the secrets out of a list: names in it stay, unless the key says that these are the secrets."""

    def take(match):
        bare = match.group(2)
        if not bare or HARMLESS.fullmatch(bare) or match.group(3) and NAME.fullmatch(bare) and not SEVERAL.search(key):
            return match.group(0)
        return match.group(1) + reduced(bare) + match.group(1) + (match.group(3) or "")

    return take


def value_at(words, at, key, whole, quote):
    """(where the value of a key ends, what is to stand there); the text itself where it is no secret."""
    first = words[at : at + 1]
    if quote:  # the key stands in a quoted text, and so does its value
        end = words.find(quote, at)
        end = end_of_line(words, at) if end < 0 or "\n" in words[at:end] else end
    elif first and first in "[({":
        end, closed = group_at(words, at)
        if closed:
            return end, SCALAR.sub(in_group(key), words[at:end])
    elif whole and re.match(r"[|>][+-]?\d?[ \t]*(?:\n|$)", words[at : at + 80]):
        end = block_end(words, at)
        begin = min(end, end_of_line(words, at) + 1)
        return end, words[at:begin] + (reduced(words[begin:end].strip()) if words[begin:end].strip() else "")
    else:
        quoted = QUOTED.match(words, at)
        if quoted:
            end = quoted.end()
            rest = words[end : end + KEY_LIMIT].partition("\n")[0].strip()
            if not (whole and rest and rest[0] not in ",;#}])<"):
                inner = 3 if quoted.group(0)[:3] in ('"""', "'''") else 1
                bare = quoted.group(0)[inner:-inner]
                kept = quoted.group(0)[:inner]
                return end, kept + (reduced(bare) if is_secret(key, bare) else bare) + quoted.group(0)[-inner:]
        if whole or first == "#":
            end = end_of_line(words, at)
        else:
            bare = BARE.match(words, at)
            end = bare.end() if bare else at
    bare = words[at:end].rstrip(" \t\r,;")
    if not is_secret(key, bare) or not is_secret(key, COMMENT.sub("", bare)):
        return at + len(bare), bare
    return at + len(bare), reduced(bare)


def assigned(words):
    """A text with what stands behind a key that names a secret reduced."""
    out, done, seen = [], 0, 0
    for match in WORD.finditer(words):
        if match.start() < max(done, seen):
            continue
        begin = max(done, match.start() - KEY_LIMIT)
        head = KEY.match(words[begin : match.start()][::-1]).group(0)[::-1]
        end = KEY.match(words, match.end(), match.end() + KEY_LIMIT).end()
        key, seen = head + words[match.start() : end], end
        start = match.start() - len(head)
        before = words[start - 1] if start else "\n"
        whole = bool(AT_START.match(words[max(0, start - KEY_LIMIT) : start].rpartition("\n")[2]))
        between, quote, several = SEPARATOR.match(words, end), "", False
        if between:
            if before in "\"'" and before not in between.group(0):
                quote = before
        else:
            between = BLANK.match(words, end)
            if not between or not (key.startswith("-") or before in "\n \t"):
                continue
            whole = whole and bool(REST_OF_LINE.search(key))
            if not key.startswith("-") and not whole and not SOLE_WORD.match(words[between.end() : between.end() + 300]):
                continue
            several = key.startswith("-") and bool(SEVERAL.search(key))
        while between:
            end, text = value_at(words, between.end(), key, whole, quote)
            out += [words[done : between.end()], text]
            done = end
            between = BLANK.match(words, end) if several and end > between.end() else None
    return "".join(out) + words[done:]


def in_url(match):
    """The user of a URL without the password, or what stands in a user's place alone."""
    user, value = match.group(1), match.group(2)
    if value:
        return "://" + user + ":" + (reduced(value[1:]) if value[1:] and not STAND_IN.fullmatch(value[1:]) else value[1:]) + "@"
    return "://" + (user if len(user) < 16 else reduced(user)) + "@"


def last_group(match):
    """A match with its last group reduced."""
    value = match.group(match.lastindex)
    if HARMLESS.fullmatch(value.strip()) or "<secret:" in value:
        return match.group(0)
    return match.group(0)[: match.start(match.lastindex) - match.start()] + reduced(value)


def in_call(match):
    """A program's line with the value of its password flag reduced."""
    flag = re.compile(r"(?<!\S)(-%s[ =]?)([^\s<]+)" % PROGRAMS[match.group(1)])
    return match.group(1) + flag.sub(last_group, match.group(2))


def redact(words):
    """A text without its secrets. What one is taken out of may show another, so it looks again until nothing changes."""
    for _ in range(4):
        before, words = words, redacted(words)
        if words == before:
            break
    return words


def redacted(words):
    """A text without the secrets that show in it as it is."""
    lowered = words.lower()
    if not any(hint in lowered for hint in HINTS):
        return words
    words = KINDS[0][1].sub(lambda match: reduced(match.group(0)), words)
    words = XML.sub(last_group, HEADER.sub(last_group, words))
    words = REDIS_USER.sub(lambda match: match.group(1) + REDIS_WORD.sub(last_group, match.group(2)), words)
    words = USER.sub(last_group, CALLS.sub(in_call, URL.sub(in_url, words)))
    words = assigned(words)
    for kind, pattern in KINDS[1:]:
        words = pattern.sub(lambda match, kind=kind: "<secret:%s:%d>" % (kind, len(match.group(0))), words)
    return BEARER.sub(last_group, words)


ARGUMENT = re.compile(
    r"(?i)([\w.-]{0,40}(?:passw(?:or)?d|passphrase|bindpw|secret|token|api[_-]?key|access[_-]?key|crypt_key)[\w.-]{0,40}\\?=)"
    r"([^\s,\"'\]]+)"
)
WITH_FLAG = re.compile(r"(?i)(?<!\S)(--?[\w-]{0,40}(?:passw(?:or)?d|secret|token|api-?key)[\w-]{0,40}[ \t]{1,9})(?!-)([^\s,]+)")


def argument(match):
    """A program's argument with its value reduced, unless it is none of a secret."""
    key, value = match.group(1).rstrip("\\= \t"), match.group(2)
    plain = value.isdigit() and len(value) < 5 or "<secret:" in value or not is_secret(key, value)
    return match.group(0) if plain else match.group(1) + reduced(value)


def redact_arguments(words):
    """A text without the secrets in programs' arguments, for formats whose own words name passwords: sudoers, PAM."""
    words = CALLS.sub(in_call, URL.sub(in_url, words))
    words = WITH_FLAG.sub(argument, ARGUMENT.sub(argument, words))
    for kind, pattern in KINDS:
        words = pattern.sub(lambda match, kind=kind: "<secret:%s:%d>" % (kind, len(match.group(0))), words)
    return words


def redact_bytes(data, how=redact):
    """Bytes without the secrets of the text in them."""
    return how(data.decode("utf-8", "surrogateescape")).encode("utf-8", "surrogateescape")


ASSIGNED_WORD = re.compile(r"(?s)(-{0,2}[\w.-]{1,160})([=:]\s{0,3})(.*)")


def redact_argv(words):
    """The words of a command line without their secrets, those that are words of their own included."""
    lowered = " ".join(words).lower()
    if not any(hint in lowered for hint in HINTS):
        return words
    out, key, flag = [], "", None  # `key`: of the flag whose value may follow; `flag`: of a password, for this program
    for word in words:
        pair = ASSIGNED_WORD.fullmatch(word)
        if flag and word.startswith(flag):
            out.append(flag + (word[2:] if HARMLESS.fullmatch(word[2:]) else reduced(word[2:])))
            key = "" if word[2:] else "password"
        elif pair and WORD.search(pair.group(1)) and not pair.group(3).startswith("{"):
            value = URL.sub(in_url, pair.group(3))
            secret = value == pair.group(3) and "<secret:" not in value and is_secret(pair.group(1), value)
            out.append(pair.group(1) + pair.group(2) + (reduced(value) if secret else value))
            key = ""
        elif word.startswith("-") and not re.search(r"\s", word):
            out.append(redact(word))
            key = word if not pair and (WORD.search(word) or word in ("-u", "--user", "--proxy-user", "-p")) else ""
        elif key in ("-u", "--user", "--proxy-user", "-p"):
            user, colon, value = word.partition(":")
            kept = HARMLESS.fullmatch(value) or NUMBERS.fullmatch(word) or "<secret:" in word
            out.append(word if kept else user + colon + reduced(value))
            key = ""
        elif key:
            out.append(reduced(word) if is_secret(key, word) and "<secret:" not in word else word)
            key = key if SEVERAL.search(key) else ""
        else:
            out.append(redact(word))
        flag = "-" + PROGRAMS[word.rpartition("/")[2]] if word.rpartition("/")[2] in PROGRAMS else flag
    return out
