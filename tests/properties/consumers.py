"""What programs read from the files that templates write, by each program's own rules.

Every reader returns lists and texts in which a value that was given is found again as it was.
"""

from __future__ import annotations

import base64
import json
import re
import subprocess
from html.parser import HTMLParser
from typing import Any
from urllib.parse import unquote, urlsplit

import yaml

# systemd.syntax(7) and systemd.service(5): what a backslash stands for.
_ESCAPES = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v", "\\": "\\", '"': '"', "'": "'", "s": " "}
NGINX_WORD = 4096
_NUMBERS = {"x": 2, "u": 4, "U": 8}


class UnreadableError(Exception):
    """The program would not take the file."""


def systemd_unit(text: str) -> Any:
    """The sections' assignments; those that systemd splits into words are split, and specifiers and variables are expanded."""
    found = []
    for line in re.sub(r"\\\n\s*", " ", re.sub(r"(?m)^[#;].*\n", "", text)).split("\n"):
        if re.fullmatch(r"\s*", line):
            continue
        if re.fullmatch(r"\[\w+\]", line):
            found.append([line])
            continue
        key, equals, value = line.partition("=")
        if not equals or not re.fullmatch(r"[A-Za-z]+", key):
            raise UnreadableError(f"{line[:80]!r} is no assignment")
        command = key.startswith("Exec")
        split = command or key in ("Environment", "ReadWritePaths")
        found.append([key, *([expanded(word, variables=command) for word in systemd_words(value)] if split else [expanded(value)])])
    return found


def systemd_words(text: str) -> list[str]:
    """As extract_first_word() takes them with EXTRACT_UNQUOTE and EXTRACT_CUNESCAPE."""
    words: list[str] = []
    word, quote, position = None, "", 0
    while position < len(text):
        char = text[position]
        position += 1
        if char == "\\":
            kind = text[position : position + 1]
            if kind in _NUMBERS:
                digits = text[position + 1 : position + 1 + _NUMBERS[kind]]
                number = int(digits, 16) if re.fullmatch(r"[0-9a-fA-F]+", digits) and len(digits) == _NUMBERS[kind] else 0
                if not number or 0xD800 <= number < 0xE000:
                    raise UnreadableError(f"\\{kind}{digits} is no character")
                word, position = (word or "") + chr(number), position + 1 + _NUMBERS[kind]
            elif kind in _ESCAPES and kind:
                word, position = (word or "") + _ESCAPES[kind], position + 1
            else:
                raise UnreadableError(f"\\{kind} is no escape")
        elif quote:
            quote, word = ("", word) if char == quote else (quote, (word or "") + char)
        elif char in "'\"":
            # In the middle of a word, too.
            quote, word = char, word or ""
        elif char in " \t":
            words, word = (words, None) if word is None else ([*words, word], None)
        else:
            word = (word or "") + char
    if quote:
        raise UnreadableError("a quote is not closed")
    return words if word is None else [*words, word]


def expanded(word: str, variables: bool = False) -> str:
    """With its specifiers, of which only %i and %% are known here; a variable would be another value, but for those that we write."""
    if re.search(r"%(?![%i])", word.replace("%%", "")):
        raise UnreadableError(f"{word[:80]!r} has a specifier")
    if variables and re.search(r"\$(?!\$|MAINPID|ARGUMENTS$|\{)", word.replace("$$", "")):
        raise UnreadableError(f"{word[:80]!r} has a variable")
    return word.replace("%%", "%").replace("$$", "$") if variables else word.replace("%%", "%")


def environment_file(text: str) -> Any:
    """As systemd does; the collection's own reader is held against systemd by its tests."""
    from ansible_collections.selfhosted.prefect.plugins.module_utils._base.environment import parse_environment

    return [[name, login(value)] for name, value in parse_environment(text).items()]


def login(value: str) -> Any:
    """A URL, with its user and its password decoded; a list as such; anything else as it is."""
    if value.startswith('["'):
        return json.loads(value)
    parts = urlsplit(value) if re.match(r"rediss?://", value) else None
    return [unquote(parts.username or ""), unquote(parts.password or ""), value.rpartition("@")[2]] if parts else value


def shell(text: str) -> Any:
    """The variables that a POSIX shell has after it sourced the file."""
    command = ["/bin/sh", "-c", ". /dev/stdin && exec /usr/bin/env -0"]
    done = subprocess.run(command, input=text.encode(), capture_output=True, check=True, env={})
    pairs = [pair.split("=", 1) for pair in done.stdout.decode().split("\0") if pair]
    return {name: value for name, value in pairs if name not in ("PWD", "OLDPWD", "_", "SHLVL")}


def yaml_file(text: str) -> Any:
    return yaml.safe_load(text)


_NGINX = re.compile(
    r"""\s+|\#[^\n]*|(?P<sign>[;{}])|"(?P<double>(?:\\.|[^"\\])*)"|'(?P<single>(?:\\.|[^'\\])*)'
    |(?P<plain>(?:\\.|\$\{[^}]*\}|[^\s;{}"'\\])(?:\\.|\$\{[^}]*\}|[^\s;{\\])*)""",
    re.DOTALL | re.VERBOSE,
)


def nginx(text: str) -> Any:
    """The words of a configuration, as ngx_conf_read_token() takes them; base64 is decoded."""
    found: list[Any] = []
    for token in _NGINX.finditer(text):
        word = next((each for each in token.group("double", "single", "plain") if each is not None), None)
        if word is not None and len(word.encode()) > NGINX_WORD:
            raise UnreadableError("a word is longer than nginx takes")
        found += [token["sign"]] if token["sign"] else [] if word is None else [nginx_word(word)]
    if found.count("{") != found.count("}"):
        raise UnreadableError("braces do not match")
    return found


def keepalived(text: str) -> Any:
    """The words of each line, as keepalived's parser takes them; those of a command, which is quoted, one by one."""
    found = []
    for line in text.split("\n"):
        plain = re.sub(r'^((?:[^"!#]|"[^"]*")*)[!#].*', r"\1", line)
        if re.search(r"""[\\'$]|^\s*@|"[^"]*$""", re.sub(r'"[^"]*"', "", plain)):
            raise UnreadableError(f"{line[:80]!r} has a quote, an escape, a definition or a condition")
        found.append([word for part in re.findall(r'"([^"]*)"|(\S+)', plain) for word in (part[0] or part[1]).split()])
    return [words for words in found if words]


def nginx_word(word: str) -> str:
    plain = re.sub(r"""\\(["' \\])""", r"\1", word)
    encoded = re.fullmatch(r"(Basic |~\^Basic \\Q)([A-Za-z0-9+/=]+)(|\\E\$)", plain)
    return encoded[1] + base64.b64decode(encoded[2]).decode() + encoded[3] if encoded else plain


def postgresql_conf(text: str) -> Any:
    """As guc-file.l does: a name, a value in quotes or without, and nothing else on a line."""
    found = []
    for line in text.split("\n"):
        if re.fullmatch(r"\s*(#.*)?", line):
            continue
        parts = re.fullmatch(r"([A-Za-z_][A-Za-z0-9_.]*) = (?:([A-Za-z0-9_.-]+)|'((?:[^'\\]|''|\\.)*)')", line)
        if not parts:
            raise UnreadableError(f"{line[:80]!r} is no setting")
        quoted = parts[3]
        found.append([parts[1], parts[2] if quoted is None else re.sub(r"''|\\(.)", lambda each: each[1] or "'", quoted)])
    return found


def pg_hba(text: str) -> Any:
    """As next_token() does: words apart by blanks, lists by commas, and quotes that keep all but a quote."""
    lines = [line for line in text.split("\n") if line.strip() and not line.startswith("#")]
    found = [re.findall(r'"([^"]*)"|([^\s",]+)', line) for line in lines]
    if any(line.count('"') % 2 for line in lines):
        raise UnreadableError("a quote is not closed")
    return [[quoted or plain for quoted, plain in words] for words in found]


def redis_conf(text: str) -> Any:
    """The words of each line, as sdssplitargs() takes them."""
    return [redis_words(line) for line in text.split("\n") if line.strip() and not line.startswith("#")]


def sentinel_conf(text: str) -> Any:
    """The same without the hashes of passwords, which it also holds as they are."""
    return [[word for word in words if not word.startswith("#")] for words in redis_conf(text)]


def redis_words(line: str) -> list[str]:
    found = []
    for word in re.finditer(r"""\s+|"((?:\\.|[^"\\])*)"(?=\s|$)|'((?:\\'|[^'])*)'(?=\s|$)|([^\s"']+)(?=\s|$)|(.)""", line):
        double, single, plain, odd = word.groups()
        if odd is not None:
            raise UnreadableError("quotes do not match")
        if double is not None:
            found.append(re.sub(r"\\(x[0-9a-fA-F]{2}|.)", lambda each: redis_escape(each[1]), double))
        elif single is not None or plain is not None:
            found.append(plain if single is None else single.replace("\\'", "'"))
    return found


def haproxy(text: str) -> Any:
    """The words of each line; what a check sends, as Redis takes it apart."""
    return [haproxy_words(line) for line in text.split("\n") if line.strip() and not line.startswith("#")]


def haproxy_words(line: str) -> list[Any]:
    found: list[Any] = []
    for word in re.finditer(r"""\s+|\#.*|"([^"\\$]*)"(?=\s|$)|([^\s"'\\#$]+)(?=\s|$)|(.)""", line):
        quoted, plain, odd = word.groups()
        if odd is not None:
            raise UnreadableError("a word that would be quoted or expanded")
        if quoted is not None or plain is not None:
            found.append(plain if quoted is None else quoted)
    if "send-binary" in found:
        found[-1] = redis_commands(bytes.fromhex(found[-1]))
    return found


def redis_commands(sent: bytes) -> list[list[str]]:
    """The words of commands in Redis's protocol."""
    found: list[list[str]] = []
    position = 0
    while position < len(sent):
        end = sent.index(b"\r\n", position)
        kind, number = sent[position : position + 1], int(sent[position + 1 : end])
        position = end + 2
        if kind == b"*":
            found.append([])
            continue
        if kind != b"$" or sent[position + number : position + number + 2] != b"\r\n":
            raise UnreadableError("a word has another length")
        found[-1].append(sent[position : position + number].decode())
        position += number + 2
    return found


def redis_escape(code: str) -> str:
    return chr(int(code[1:], 16)) if len(code) > 1 else {"n": "\n", "r": "\r", "t": "\t", "b": "\b", "a": "\a"}.get(code, code)


def users(text: str) -> Any:
    """nginx's auth_basic_user_file: a name, a colon, a hash."""
    return [[line.partition(":")[0], str(line.count(":"))] for line in text.split("\n") if line]


class _Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[Any] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append([tag, *[[name, value or ""] for name, value in attrs]])

    def handle_endtag(self, tag: str) -> None:
        self.found.append(["/" + tag])

    def handle_data(self, data: str) -> None:
        self.found.append(" ".join(data.split()))

    def handle_comment(self, data: str) -> None:
        self.found.append(["comment", data])


def page(text: str) -> Any:
    """Tags, their attributes, and the text between them."""
    reader = _Page()
    reader.feed(text)
    reader.close()
    return reader.found
