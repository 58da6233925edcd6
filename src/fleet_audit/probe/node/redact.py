# SPDX-License-Identifier: Apache-2.0
"""Takes secrets out of texts before they leave the node: `<secret:KIND:LENGTH>` stands in their place.

Where it is in doubt it takes too much. Its work is bounded by the text's length.
"""

import functools
import re

from fleet_audit.probe.node.words import ANY_KEY, DEFAULTS, HARMLESS, IS_PATH, KINDS, NO_SECRET, OF_A_FILE, WORD, Rule

KEY = re.compile(r"[\w.-]*")
AT_START = re.compile(r"""[ \t]*(?:export[ \t]+|set[ \t]+|-[ \t]+)?["']?$""")
CALLED = r"""\((?!(?:s|\d[a-z]{0,3})\))(?=[ \t]{0,9}(?:["']|[^\s()"',]{1,256}[ \t]{0,9}\)))"""  # not `passwd(5)`
SEPARATOR = re.compile(r"""["']?\]?[ \t]*(?:=>|:=|[=:]|%s)[ \t]*(?:[bBrRfFuU]{1,2}(?=["']))?""" % CALLED)
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
HEADER = Rule(
    "authorization|cookie",
    r"""(?i)\b((?:proxy-)?authorization["']?\s{0,3}[:=]\s{0,3}["']?(?![\s{\[]|[\w.-]{1,80}["']?:(?:\s|$))"""  # settings are no header
    r"""(?:[A-Za-z-]{1,20}[ \t]+)?|(?:set-)?cookie["']?:[ \t]*["']?)([^\n"'\0]+)""",
)
BEARER = Rule("bearer|basic", r"(?i)\b((?:bearer|basic)\s{1,3})([A-Za-z0-9+/=_.~-]{8,})")
URL = Rule("://", r"://([^\s\0/'\"<>@:]{0,256})((?::(?!\d{1,5}(?:/|$))(?:(?!://)[^\s\0'\"<>]){0,512})?)@")
XML = Rule(
    "</",
    r"(?i)(<((?!secret:)[\w.:-]{0,60}(?:pass|secret|token|key|credential)[\w.:-]{0,60})>\s{0,9}|"
    r"<name>[^<]{0,99}(?:pass|secret|token|key|credential)[^<]{0,99}</name>\s{0,99}<value>)([^<]+)(?=</)",
)
REDIS_USER = Rule("user |user\t", r"(?m)^([ \t]*user[ \t]+\S+[ \t])(.*)$")
REDIS_WORD = re.compile(r"(?<!\S)([>#!]|<(?!secret:))(\S+)")
NAMED = r"""(?!\d+\\?:\d+(?!\S))(?:"[^\s:"<>]{1,99}:([^\n"<>\0]+)|'[^\s:'<>]{1,99}:([^\n'<>\0]+)|[^\s:'"<>\\]{1,99}\\?:([^\s'"<>]+))"""
USER = Rule("-u|--user|--proxy-user", r"(?<!\S)(?:-[uU][ =]?|--(?:proxy-)?user[ =])" + NAMED)
USER_FLAG = Rule("-u|-p", r"-u|-p|--(?:proxy-)?user")
CURL_FLAG = re.compile(r"-[A-Za-z]{0,6}[uU]")
PROGRAMS = {"ipmitool": "P", "login": r"p(?![\w-]| -)", "openssl": r"[kK](?![\w-])"}  # program: flag of a password
PROGRAMS.update(dict.fromkeys("sshpass mysql mysqldump mysqladmin mariadb mongo mongosh mongodump mongorestore mongoexport".split(), "p"))
PROGRAMS.update(dict.fromkeys(("redis-cli", "valkey-cli"), "a"))
PROGRAMS.update(dict.fromkeys(("ldapsearch", "ldapwhoami", "ldapmodify", "ldapadd"), "w"))
VALUE = r"""("[^"\n\0]{1,4096}"|'[^'\n\0]{1,4096}'|[^\s\0<]+)"""
FLAGS = {program: Rule(program, r"(?<!\S)(-%s[ =]?)%s" % (flag, VALUE)) for program, flag in PROGRAMS.items()}
FLAGS["curl"] = Rule("curl", r"(?<!\S)-[A-Za-z]{1,6}[uU][ =]" + NAMED)
PROGRAM = Rule("|".join(FLAGS), r"\b(?:%s)\b" % "|".join(sorted(FLAGS, key=len, reverse=True)).replace("login", "(?<!-)login"))
CALLS = Rule("|".join(FLAGS), PROGRAM.source + r"[^\n\0]*")
PLACED = tuple(  # secrets that only their place among other words shows: the last group; NUL parts words as a blank does
    Rule(hints, pattern.replace("~", r"[ \t\0]{1,9}").replace("WORD", r"[^\s\0]{1,256}"))
    for hints, pattern in (
        ("wandb", r"\bwandb~login\b[^\n]{0,120}?(?<!\w)([0-9a-f]{40})(?!\w)"),
        ("alias|config", r"\b(?:alias~(?:set|s)|config~host~add)~WORD~https?\\?://WORD~WORD~((?<=\0)[^\0]+|" + VALUE[1:]),
        ("crypto", r"(?m)^[ \t]{0,99}crypto[ \t][^\n\0]{0,256}?\bpw[ \t]{1,9}([^\s\0<]+)"),
        ("iscsi:", r"\biscsi:[^\s:@\0]{1,256}:([^\s@\0]{1,256})(?=@)"),
        ("%", r"""(?:(?<![\w-])user(?:name)?=|(?<![^\s\0])-U[ =\0]?["']?)[^\s\0,%='"]{1,256}%([^\s\0,'"<]+)"""),
        ("sig=|signature=", r"""(?i)[?&;](?:[\w-]{1,40}-)?sig(?:nature)?=([^\s\0&"'<>]+)"""),
        (":ommysql:|:ompgsql:| >|\t>", r"(?::om(?:my|pg)sql:|[ \t]>)[^\s,\0]{1,256},[^\s,\0]{1,64},[^\s,\0]{1,64},([^\s;\0<]+)"),
        (
            "/t/|/priv/",
            r"""://[^\s\0]{1,200}?/(?:t|priv)/(?=[A-Za-z_.-]{0,99}\d)(?=[\d_.-]{0,99}[A-Za-z])([A-Za-z0-9_.-]{20,})(?=[/\s"',\0]|$)""",
        ),
    )
)
RULES = (WORD, *(rule for _, rule in KINDS), HEADER, BEARER, URL, XML, REDIS_USER, USER, CALLS, *PLACED)
NUMBERS = re.compile(r"[\d.:/]+(?:tcp|udp)?")
STAND_IN = re.compile(r"(<secret:[\w-]+:\d+>)")
KEY_LIMIT = 80  # characters that a key may have before and after its decisive word
GROUP_LIMIT = 4096  # characters that a list may have


def kind_of(value):
    """What a secret looks like: a known kind of token, a publicly known default, or `value`."""
    lowered = value.lower()
    for kind, rule in KINDS:
        if rule.hinted(lowered) and rule.pattern.match(value):
            return kind
    return "default" if lowered in DEFAULTS else "value"


def reduced(value):
    """A secret's stand-in."""
    return "<secret:%s:%d>" % (kind_of(value), len(value))


def is_secret(key, value):
    """Whether what is assigned to a key of this name is one."""
    if HARMLESS.fullmatch(value) or HARMLESS.fullmatch(value.strip("\"' ")) or NO_SECRET.search(key):
        return False
    if value.isdigit() and len(value) < 8 and key.lower().endswith("tokens"):
        return False  # a limit
    if ANY_KEY.search(key) and (value.isdigit() and len(value) < 3 or IS_PATH.fullmatch(value.strip("\"' "))):
        return False
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
    elif first == "{" and key.lower().endswith("authorization"):
        return at, ""  # settings, as those of a kubelet
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
    for match in WORD.pattern.finditer(words):
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
            whole = whole and "(" not in between.group(0)
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
    """A match with its last group reduced, but for the quotes and the comma around it."""
    value = match.group(match.lastindex)
    bare = value.strip("\"', \t")
    if HARMLESS.fullmatch(bare) or "<secret:" in value:
        return match.group(0)
    begin = match.start(match.lastindex) - match.start()
    return match.group(0)[:begin] + value.replace(bare, reduced(bare), 1) + match.group(0)[begin + len(value) :]


def in_call(match):
    """A program's line with the values of the password flags reduced, those of other programs in it included."""
    line = match.group(0)
    for program in sorted(set(PROGRAM.pattern.findall(line))):
        line = FLAGS[program].pattern.sub(last_group, line)
    return line


def placed(words, lowered):
    """A text without the secrets that only their place shows."""
    for rule in PLACED:
        words = rule.sub(last_group, words, lowered)
    return words


def known(words, lowered):
    """A text without tokens that betray themselves."""
    for kind, rule in KINDS:
        words = rule.sub(lambda match, kind=kind: "<secret:%s:%d>" % (kind, len(match.group(0))), words, lowered)
    return words


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
    words = KINDS[0][1].sub(lambda match: reduced(match.group(0)), words, lowered)
    words = XML.sub(last_group, HEADER.sub(last_group, words, lowered), lowered)
    words = REDIS_USER.sub(lambda match: match.group(1) + REDIS_WORD.sub(last_group, match.group(2)), words, lowered)
    words = URL.sub(in_url, placed(words, lowered), lowered)
    words = USER.sub(last_group, CALLS.sub(in_call, words, lowered), lowered)
    if WORD.hinted(lowered):
        words = assigned(words)
    return BEARER.sub(last_group, known(words, lowered), lowered)


OPERAND = r"""("(?:[^"\\\n]|\\.){0,4096}"|'(?:[^'\\\n]|\\.){0,4096}'|["']?(?:\\.|[^\s,"'\\\]]|\](?=[^\s,]))+)"""
ARGUMENT = re.compile(r"(?<![\w.-])(?<!_Alias )([\w.-]+(?:=|\\[:=](?:\\?[ \t]){0,3}))(?!\()" + OPERAND)
WITH_FLAG = re.compile(r"""(?<![^\s#"'(])(--?[\w-]+[ \t]{1,9})(?!-)""" + OPERAND)
HEADER_ARGUMENT = Rule(
    "authorization",
    r"(?i)\bauthorization\\?[:=](?:\\?[ \t]){0,3}[\"']?(?:(?:bearer|basic|token|digest|apikey)(?:\\?[ \t]){1,3})?"
    r"(?!(?:bearer|basic|token|digest|apikey)?\\?[ \t])((?:\\.|[^\s,\"'\\<])+)",
)
NO_PASSWORD = re.compile(r"\d{1,5}(?:[-:./\\]+\d[-\d:./\\]*)?(?:/(?:tcp|udp))?|tcp|udp|icmp(?:v6)?|sctp|all|\.{0,2}/.*|\*|\?+|\[.*")
PLAIN = re.compile(r"!?(?:%s)|\d{1,4}(?:\.\d+)?|ALL|token|apikey|\*" % IS_PATH.pattern)
NEXT_COMMAND = re.compile(r"(?<!\\),(?=[ \t]{0,9}[!/A-Z])")


@functools.lru_cache(maxsize=1024)
def argued(before, value):
    """An argument, behind its name or flag, with its value reduced unless it is none of a secret."""
    key, bare = before.rstrip("\\=: \t")[-2 * KEY_LIMIT :], value.strip("\"'")
    if key == "-p":
        plain = NO_PASSWORD.fullmatch(bare)  # a port, a protocol or a path
    else:
        plain = not WORD.pattern.search(key) and key.lstrip("-").lower() != "key" or PLAIN.fullmatch(bare)
    plain = plain or "<secret:" in bare or not is_secret(key, bare)
    return before + (value if plain else value.replace(bare, reduced(bare), 1))


def redact_arguments(words):
    """A text without the secrets in programs' arguments, for formats whose own words name passwords: sudoers, PAM."""
    mark = "" if "\x1e" in words else "\x1e"  # a separator, so that no argument reaches into the next command
    lowered = words.lower()
    words = URL.sub(in_url, placed(NEXT_COMMAND.sub("," + mark, words), lowered), lowered)
    words = USER.sub(last_group, CALLS.sub(in_call, words, lowered), lowered)
    words = HEADER_ARGUMENT.sub(last_group, words, lowered)
    for pattern in (ARGUMENT, WITH_FLAG):
        words = pattern.sub(lambda match: argued(*match.groups()), words)
    return known(words.replace("," + mark, ","), lowered)


def redact_bytes(data, how=redact):
    """Bytes without the secrets of the text in them."""
    return how(data.decode("utf-8", "surrogateescape")).encode("utf-8", "surrogateescape")


ASSIGNED_WORD = re.compile(r"(?s)(-{0,2}[\w.-]{1,160})([=:]\s{0,3})(.*)")


def redact_argv(words):
    """The words of a command line without their secrets, those that are words of their own included."""
    lowered = "\0".join(words).lower()
    if not USER_FLAG.hinted(lowered) and not any(rule.hinted(lowered) for rule in RULES):
        return words
    if words and not any("\0" in word for word in words):
        words = placed("\0".join(words), lowered).split("\0")
    out, key, flag = [], "", None  # `key`: of the flag whose value may follow; `flag`: of a password, for this program
    curl = "curl" in [word.rpartition("/")[2] for word in words]
    for word in words:
        pair, program = ASSIGNED_WORD.fullmatch(word), word.rpartition("/")[2]
        if flag and flag.match(word):
            out.append(word[:2] + (word[2:] if HARMLESS.fullmatch(word[2:]) else reduced(word[2:])))
            key = "" if word[2:] else "password"
        elif pair and WORD.pattern.search(pair.group(1)) and not pair.group(3).startswith("{"):
            value = URL.sub(in_url, pair.group(3), lowered)
            secret = value == pair.group(3) and "<secret:" not in value and is_secret(pair.group(1), value)
            out.append(pair.group(1) + pair.group(2) + (reduced(value) if secret else value))
            key = ""
        elif word.startswith("-") and not re.search(r"\s", word):
            out.append(redact(word))
            user = USER_FLAG.pattern.fullmatch(word) or curl and CURL_FLAG.fullmatch(word)
            key = "-p" if word == "-p" else "-u" if user else word if not pair and WORD.pattern.search(word) else ""
        elif key in ("-u", "-p"):
            user, colon, value = word.partition(":")
            kept = HARMLESS.fullmatch(value) or NUMBERS.fullmatch(word) or "<secret:" in word
            kept = kept or key == "-p" and NO_PASSWORD.fullmatch(word)  # a port, a protocol or a path
            out.append(word if kept else user + colon + reduced(value))
            key = ""
        elif key:
            out.append(reduced(word) if is_secret(key, word) and "<secret:" not in word else word)
            key = key if SEVERAL.search(key) else ""
        else:
            out.append(redact(word))
        flag = re.compile("-" + PROGRAMS[program]) if program in PROGRAMS else flag
    return out
