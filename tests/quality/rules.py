"""The repository's own rules, each a function from files to a list of problems in words.

Nothing here runs a program or knows pytest: the tests apply each rule to the checkout, and to small broken
examples that it has to catch.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jinja2
import yaml

# Settings of the inventory that defaults may read; everything else called ansible_* is a fact or a magic variable.
INVENTORY_VARIABLES = {"ansible_host", "ansible_port"}

# Any way of picking one host out of a group: groups['x'][0], groups.x[0], groups['x'] | first, groups.get('x')[0].
GROUP_INDEX = re.compile(
    r"\b(?:common_)?groups\s*(?:\.\s*\w+|\[[^\]]+\])\s*(?:\([^)]*\)\s*)?(?:\|\s*default\([^)]*\)\s*\)?\s*)?(?:\[\s*-?\d|\|\s*(?:first|last)\b|\.\s*0\b)"
)

# The inventory's groups in a template: groups['x'], groups.x, groups | filter, f(groups, x). Not a key or an option of that name.
INVENTORY_GROUPS = re.compile(r"(?<![\w.'\"-])groups(?:\[|\.\w|\s*\||,)")

SET_FILTER = re.compile(r"\|\s*(?:ansible\.builtin\.)?(?:intersect|(?:symmetric_)?difference|union)\b")

COMMENT = re.compile(r"(?:^|\s)#.*")

FACT = re.compile(r"\bansible_\w+")

MISSING = object()


def require_none(problems: Iterable[str]) -> None:
    """Raise AssertionError with the problems one below the other, if there are any."""
    found = list(problems)
    if found:
        raise AssertionError("\n  ".join([f"{len(found)} found:", *found]))


def load(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file; empty when the file is, or is absent."""
    return (yaml.safe_load(path.read_text(encoding="utf-8")) if path.is_file() else None) or {}


def role_variables(role: Path) -> dict[str, Any]:
    """The defaults and variables of a role, from `main.yml` or a folder `main` alike."""
    files = [role / kind / "main.yml" for kind in ("defaults", "vars")]
    files += [path for kind in ("defaults", "vars") for path in sorted((role / kind / "main").glob("*.yml"))]
    return {name: value for path in files for name, value in load(path).items()}


def shadowed_variable_problems(inventory: Path) -> Iterator[str]:
    """Variables of all hosts in an inventory's file that its `group_vars/all` has, too, which Ansible takes instead."""
    shared = {name for path in sorted((inventory / "group_vars").glob("all*")) if path.is_file() for name in load(path)}
    for path in sorted(inventory.glob("*.yml")):
        given = (load(path).get("all") or {}).get("vars") or {}
        yield from (f"{path}: {name} is ignored, since group_vars/all has it, too" for name in given if name in shared)


def spec_options(role: Path) -> dict[str, dict[str, Any]]:
    """The options of all entry points of a role's argument spec."""
    entry_points = load(role / "meta" / "argument_specs.yml").get("argument_specs") or {}
    options: dict[str, dict[str, Any]] = {}
    for entry in entry_points.values():
        options.update((entry or {}).get("options") or {})
    return options


def spec_problems(role: Path, shared: Mapping[str, Any]) -> list[str]:
    """Where a role's defaults and its argument spec do not say the same.

    A default that is a template may be left out of the spec, where it could not have the option's type;
    when the spec has it, it has to be the same text. A role may list a variable that another role has the
    default of (`shared`: the defaults of all other roles).
    """
    if not load(role / "meta" / "argument_specs.yml").get("argument_specs", {}).get("main"):
        return [f"{role.name}: no entry point 'main' in meta/argument_specs.yml"]
    options, defaults = spec_options(role), load(role / "defaults" / "main.yml")
    problems = [f"{role.name}: {name} has a default and no entry in the argument spec" for name in defaults if name not in options]
    for name, option in options.items():
        documented, actual = option.get("default", MISSING), defaults.get(name, shared.get(name, MISSING))
        if not option.get("description"):
            problems.append(f"{role.name}: {name} has no description")
        if option.get("required"):
            if documented is not MISSING or name in defaults:
                problems.append(f"{role.name}: {name} is required and has a default")
        elif actual is MISSING:
            problems.append(f"{role.name}: {name} is not required and has no default in defaults/main.yml")
        elif documented is MISSING:
            if name in defaults and not (isinstance(actual, str) and "{{" in actual):
                problems.append(f"{role.name}: the spec of {name} lacks its default, {actual!r}")
        elif json.dumps(documented, sort_keys=True) != json.dumps(actual, sort_keys=True):
            problems.append(f"{role.name}: {name} defaults to {actual!r}, its spec says {documented!r}")
    return problems


IDENTIFIER = re.compile(r"\b[A-Za-z_]\w*\b")
QUOTED = re.compile(r"'[^'\n]*'")


def foreign_variable_problems(role: Path, owners: Mapping[str, str], shared: str) -> list[str]:
    """Where a role reads a variable that another role defines. `owners` has the role of each; all may read those of `shared`."""
    folders = [role / name for name in ("defaults", "vars", "tasks", "handlers", "templates")]
    problems = []
    for path in (path for folder in folders for path in sorted(folder.rglob("*")) if path.is_file()):
        text = "\n".join(COMMENT.sub("", line) for line in _lines(path))
        for name in sorted({name for code in _code(text) for name in IDENTIFIER.findall(code)}):
            if owners.get(name, role.name) not in (role.name, shared):
                problems.append(f"{path}: reads {name} of the role {owners[name]}; what roles share is in {shared}")
    return problems


def _code(text: str) -> Iterator[str]:
    """The templates of a file, without the strings in them, and conditions, which are templates without braces."""
    for part in re.findall(r"\{[{%](.*?)[%}]\}", text, re.DOTALL):
        yield QUOTED.sub("", part)
    for condition in re.findall(r"^\s*(?:- )?(?:when|that|until|failed_when|changed_when):((?:.*)(?:\n\s+- .*)*)", text, re.MULTILINE):
        yield QUOTED.sub("", condition)


def naming_problems(role: Path) -> list[str]:
    """Defaults of a role that do not begin with its name."""
    names = sorted(load(role / "defaults" / "main.yml"))
    return [f"{role.name}: {name} does not begin with {role.name}_" for name in names if not name.startswith(f"{role.name}_")]


def fact_problems(role: Path) -> list[str]:
    """Facts in a role's defaults: arguments are validated before facts are gathered."""
    path = role / "defaults" / "main.yml"
    text = "\n".join(line for line in _lines(path) if not line.lstrip().startswith("#"))
    names = sorted(set(FACT.findall(text)) - INVENTORY_VARIABLES)
    return [f"{role.name}: defaults/main.yml reads {name}, which is not known when arguments are validated" for name in names]


def group_index_problems(paths: Iterable[Path]) -> list[str]:
    """Files that pick a host out of a group by position: an endpoint has to stay a variable."""
    return _lines_with(GROUP_INDEX, paths, "picks a host out of a group; use the endpoint variable")


def inventory_groups_problems(paths: Iterable[Path]) -> list[str]:
    """Files that read the inventory's groups themselves: they would still know a host that is being removed."""
    return [
        f"{path}:{number}: reads groups; use common_groups, or common_group_hosts: {line.strip()}"
        for path in paths
        for number, line in enumerate(_lines(path), 1)
        if INVENTORY_GROUPS.search(COMMENT.sub("", line))
    ]


def play_hosts_problems(paths: Iterable[Path]) -> list[str]:
    """Plays of steps that a host which is being removed would take part in."""
    return [
        f"{path}: the play of {play['hosts']} does not leave out a host that is being removed (common_leaving)"
        for path in paths
        for play in yaml.safe_load(path.read_text(encoding="utf-8"))
        if not re.search(r"\bcommon_(?:leaving\b|(?:\w+_)?hosts\b)", play.get("hosts", "common_leaving"))
    ]


def conditional_import_problems(paths: Iterable[Path], with_handlers: Iterable[str]) -> list[str]:
    """Roles with handlers that are imported under a condition: the handlers get it, too, and those of the last import count for all."""
    roles = {f"selfhosted.prefect.{name}" for name in with_handlers}
    return [
        f"{path}: {task.get('name')!r} imports {role} under a condition, which its handlers then have as well; use include_role"
        for path in paths
        for task in _conditional_tasks(yaml.safe_load(path.read_text(encoding="utf-8")) or [])
        if (role := (task.get("ansible.builtin.import_role") or {}).get("name")) in roles
    ]


def _conditional_tasks(entries: Iterable[Mapping[str, Any]], *, conditional: bool = False) -> Iterator[Mapping[str, Any]]:
    """The tasks of plays, blocks and lists of tasks that have a condition, or are in something that has one."""
    for entry in entries:
        here = conditional or "when" in entry
        if here:
            yield entry
        for part in ("pre_tasks", "tasks", "post_tasks", "block", "rescue", "always"):
            yield from _conditional_tasks(entry.get(part) or [], conditional=here)


PRIVATE = re.compile(r"""(?<![\w.'"])__[a-z]\w*(?<!__)\b""")
# As a key of YAML or of a dictionary, as what a task registers or loops with, and in Jinja.
DEFINES = re.compile(
    r"""(?:^|[{,-])\s*["']?(__\w+)["']?\s*:|(?:register|loop_var|index_var):\s*(__\w+)|{%-?\s*(?:set|macro)\s+(__\w+)""", re.MULTILINE
)
JINJA_LOOP = re.compile(r"\bfor\s+(__\w+(?:\s*,\s*\w+)*)\s+in\b")


def undefined_private_problems(paths: Iterable[Path]) -> list[str]:
    """Private variables that are read in one of these files and defined in none, such as after another one got a new name."""
    texts = {path: path.read_text(encoding="utf-8") for path in paths}
    defined = {name for text in texts.values() for found in DEFINES.findall(text) for name in found}
    defined |= {name.strip() for text in texts.values() for found in JINJA_LOOP.findall(text) for name in found.split(",")}
    return [
        f"{path}:{number}: {name} is defined nowhere"
        for path, text in texts.items()
        for number, line in enumerate(text.splitlines(), 1)
        for name in PRIVATE.findall(COMMENT.sub("", line))
        if name not in defined
    ]


def set_filter_problems(paths: Iterable[Path]) -> list[str]:
    """Files that use Ansible's set filters, whose results are in another order in each run: messages and choices would be, too."""
    return _lines_with(SET_FILTER, paths, "its order is another in each run; use select('in', ...), reject('in', ...) or unique")


def worded_problems(paths: Iterable[Path]) -> list[str]:
    """Variables that say in words of a template what is wrong: that is for Python, where it is tested."""
    worded = re.compile(r"""^( *)(\w+_problems?):(.*(?:\n\1 +.*)*)""", re.MULTILINE)
    return [
        f"{path}: {name} says in a template what is wrong"
        for path in paths
        for _indent, name, value in worded.findall(path.read_text(encoding="utf-8"))
        if re.search(r"'[^']*\w \w+ \w[^']*'", value)
    ]


def _lines_with(pattern: re.Pattern[str], paths: Iterable[Path], problem: str) -> list[str]:
    return [
        f"{path}:{number}: {problem}: {line.strip()}"
        for path in paths
        for number, line in enumerate(_lines(path), 1)
        if pattern.search(line)
    ]


# An element, begun or closed, also by a function that is given its name; a placeholder such as <host> is none.
MARKUP = re.compile(
    r"</\w+>|<\w+[^<>]*/>|</\{|<\{\w+\}>|\bviewBox\b|<(?:html|body|div|span|p|a|ul|ol|li|table|tr|t[dh]|h\d|style|svg|g|rect|path)[ >]"
)


def markup_problems(paths: Iterable[Path]) -> list[str]:
    """Files that hold HTML or SVG, whose place is a template: there every value is escaped."""
    return _lines_with(MARKUP, paths, "holds markup; write a template, which selfhosted.prefect.page renders")


def pin_problems(version: str, paths: Iterable[Path]) -> list[str]:
    """Further occurrences of a version that one file is the place for; comments may have it as an example."""
    pattern = re.compile(rf"(?<![\w.]){re.escape(version)}(?![\w]|\.\d)")
    return [
        f"{path}:{number}: repeats {version}: {line.strip()}"
        for path in paths
        for number, line in enumerate(_lines(path), 1)
        if pattern.search(COMMENT.sub("", line))
    ]


# --- documentation ---

LINK = re.compile(r"!?\[[^\]]*\]\(\s*<?([^)\s>]+)>?[^)]*\)")
FENCE = re.compile(r"^(```|~~~).*?^\1", re.MULTILINE | re.DOTALL)
CODE_SPAN = re.compile(r"(`+)(?!`).*?(?<!`)\1(?!`)", re.DOTALL)


def heading_anchors(text: str) -> set[str]:
    """The anchors that the headings of a Markdown page get."""
    anchors: dict[str, int] = {}
    for heading in re.findall(r"^#{1,6}\s+(.*?)\s*#*$", FENCE.sub("", text), re.MULTILINE):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "").replace("*", "")
        anchor = re.sub(r"[^\w\- ]", "", plain.lower()).replace(" ", "-")
        count = anchors.get(anchor, -1) + 1
        anchors[anchor] = count
        if count:
            anchors[f"{anchor}-{count}"] = 0
    return set(anchors)


def link_problems(page: Path) -> list[str]:
    """Links to files or headings of this repository that do not exist."""
    text = page.read_text(encoding="utf-8")
    problems = []
    for target in LINK.findall(CODE_SPAN.sub("", FENCE.sub("", text))):
        if re.match(r"[a-z][a-z0-9+.-]*:", target):
            continue
        name, anchor = (*target.split("#", 1), "")[:2]
        linked = (page.parent / name) if name else page
        if not linked.exists():
            problems.append(f"{page}: links to {target}, which does not exist")
        elif anchor and linked.suffix == ".md" and anchor not in heading_anchors(linked.read_text(encoding="utf-8")):
            problems.append(f"{page}: links to {target}, and {linked.name} has no such heading")
    return problems


def local_path_problems(paths: Iterable[Path], checkout: Path) -> list[str]:
    """Paths that only exist on one developer's machine: in a home folder, or around the checkout."""
    # Folders that every machine has say nothing about this one.
    everywhere = len(checkout.parts) <= 2 or str(checkout.parent) in {"/tmp", "/opt", "/srv", "/mnt"}
    around = "" if everywhere else rf"|{re.escape(str(checkout.parent))}/"
    local = re.compile(rf"(?<![\w.~/-])(?:/(?:root/|home/[a-z]){around})\S*")
    return [
        f"{path}:{number}: names a path of one machine: {found.group(0)}"
        for path in paths
        for number, line in enumerate(_lines(path), 1)
        for found in local.finditer(line)
    ]


def names_problems(page: Path, root: Path, known: Mapping[str, set[str]]) -> list[str]:
    """Playbooks, roles, plugins, scenarios, make targets, files and variables that a page names and that do not exist.

    `known` maps `fqcn` (names below the collection's), `variables`, `prefixes` (of variables) and `targets`
    (of make) to what exists.
    """
    text = page.read_text(encoding="utf-8")
    problems = []

    def check(kind: str, pattern: str, exists: Callable[[str], bool]) -> None:
        for name in sorted(set(re.findall(pattern, text))):
            if not exists(name):
                problems.append(f"{page}: names {kind} {name}, which does not exist")

    check("playbook", r"(?<![\w/])(playbooks/[\w-]+\.yml)", lambda name: (root / name).is_file())
    check("the folder", r"(?<![\w/])((?:roles|molecule|inventories|tools|docs)/[\w.-]*\w)", lambda name: (root / name).exists())
    check("scenario", r"molecule \w+ (?:-s|--scenario-name) ([\w-]+)", lambda name: (root / "molecule" / name).is_dir())
    check("selfhosted.prefect.", r"\bselfhosted\.prefect\.([a-z_]+)", lambda name: name in known["fqcn"])
    for line in re.findall(r"(?:^|`)\$?\s*make ((?:[a-z][\w-]*|[A-Z_]+=\S+)(?: (?:[a-z][\w-]*|[A-Z_]+=[^\s`]+))*)", text, re.MULTILINE):
        for target in line.split():
            if "=" not in target and target not in known["targets"]:
                problems.append(f"{page}: names the make target {target}, which does not exist")
    prefixes = "|".join(sorted(known["prefixes"]))
    check("the variable", rf"`((?:{prefixes})_[a-z0-9_]*[a-z0-9])`", lambda name: name in known["variables"] | known["fqcn"])
    return problems


def undocumented_variable_problems(paths: Iterable[Path], known: Mapping[str, set[str]]) -> list[str]:
    """Playbooks that read a variable with our prefix that no role has: the preflight would refuse it. `known` as for `names_problems`."""
    names = known["variables"] | known["fqcn"]
    return [
        f"{path}:{number}: reads {name}, which no argument spec has"
        for path in paths
        for number, line in enumerate(_lines(path), 1)
        for name in re.findall(r"\bprefect_[a-z0-9_]*[a-z0-9]\b", COMMENT.sub("", line))
        if name not in names
    ]


def make_targets(makefile: Path) -> set[str]:
    """The targets that a Makefile defines."""
    rules = re.findall(r"^([a-z][\w .-]*):(?!=)", "\n".join(_lines(makefile)), re.MULTILINE)
    return {target for rule in rules for target in rule.split()}


# A name after `make` is a target where the words are code (in backticks, before VARIABLE=) or an instruction (run, in brackets).
MAKE = re.compile(
    r"(?:`|\(|\bexec |\brun:? +|\bRun )(?:sudo )?make +(?:[A-Z_]+=\S+ +)*([a-z][\w-]*)(?!\w|-)|\bmake +([a-z][\w-]*) +[A-Z_]+=",
)


def make_problems(paths: Iterable[Path], targets: set[str]) -> list[str]:
    """Files that tell a reader, or a shell, to make a target that does not exist."""
    return [
        f"{path}:{number}: names the make target {target}, which does not exist"
        for path in paths
        for number, line in enumerate(_lines(path), 1)
        for target in filter(None, (name for found in MAKE.findall(line) for name in found))
        if target not in targets
    ]


def maker_problems(makefile: Path, paths: Iterable[Path]) -> list[str]:
    """Files that say which target reads them, and name one whose recipe does not."""
    recipes: dict[str, str] = {}
    for names, recipe in re.findall(r"^([a-z][\w .-]*):(?!=).*\n((?:\t.*\n)+)", makefile.read_text(encoding="utf-8"), re.MULTILINE):
        recipes.update(dict.fromkeys(names.split(), recipe))
    return [
        f"{path}: names the make target {target}, which does not read it"
        for path in paths
        for target in re.findall(r"`make ([a-z][\w-]*)", path.read_text(encoding="utf-8"))
        if str(path.relative_to(makefile.parent)) not in recipes.get(target, "")
    ]


def known_names(root: Path) -> dict[str, set[str]]:
    """What the documentation may name, read from the folders that define it."""
    roles = [path for path in (root / "roles").glob("*/") if path.is_dir()]
    documented = [*(root / "plugins").glob("*/*.py"), *(root / "plugins" / "filter").glob("*.yml")]
    plugins = {path.stem for path in documented if not path.stem.startswith("_")}
    actions = set(load(root / "meta" / "runtime.yml").get("action_groups") or {})
    variables = {role.name for role in roles}
    for role in roles:
        variables |= {*spec_options(role), *role_variables(role)}
    # Some begin otherwise than the role that documents them, such as tls_mode.
    own = {role.name for role in roles} | {name for role in roles for name in spec_options(role)}
    variables |= {name for role in roles for name in metric_names(role)} | module_metric_names(root)
    return {
        "fqcn": plugins | actions | {role.name for role in roles} | {path.stem for path in (root / "playbooks").glob("*.yml")},
        "prefixes": {name.partition("_")[0] for name in own} or {"prefect"},
        "targets": make_targets(root / "Makefile"),
        "variables": variables,
    }


METRICS = {
    "files/**/*.py": r"(?:^    \"|# TYPE )(prefect_\w+)(?:\": \(| )",
    "files/*.mtail": r"^(?:counter|gauge|histogram) (\w+)",
    "tasks/*.yml": r"# TYPE (\w+)",
    "vars/**/*.yml": r"^  - \{?name: (\w+)",
    "vars/component.yml": r"\{'name': '(\w+)', 'group'",
}


def module_metric_names(root: Path) -> set[str]:
    """The metrics that modules write for the node exporter."""
    paths = (root / "plugins" / "module_utils").rglob("*.py")
    return {name for path in paths for name in re.findall(r"\"(prefect_\w+_seconds)\"", path.read_text(encoding="utf-8"))}


def metric_names(role: Path) -> Iterator[str]:
    """The metrics that a role's programs expose, the jobs that scrape them, and the certificates that they serve with."""
    for pattern, found in METRICS.items():
        for path in sorted(role.glob(pattern)):
            yield from re.findall(found, path.read_text(encoding="utf-8"), re.MULTILINE)


# --- Ansible's documentation markup ---

DOCUMENTED_CODE = re.compile(r"(?<![\w.-])(?:[BCEIV]|O|RV)\(((?:\\.|[^\\)])*)\)")
LOST_COLON = re.compile(r"\{[^{}:]*,[^{}:]*\}")


def documented_code_problems(paths: Iterable[Path]) -> list[str]:
    """Code in the documentation of roles and plugins that does not come out as it was meant.

    The first bracket that closes ends the markup, so that C(f()) shows `f(`. A mapping in one line, such as {a: b}, cannot be written in
    YAML's plain text, and loses its meaning when the colon is replaced by a comma.
    """
    return [
        f"{path}: {found.group(0)!r} {problem}"
        for path in paths
        for found in DOCUMENTED_CODE.finditer("\n".join(_lines(path)))
        for problem in code_problems(" ".join(found.group(1).split()))
    ]


def code_problems(code: str) -> Iterator[str]:
    """What is wrong with the content of a piece of markup that is shown as code."""
    if code.count("(") != code.count("\\)"):
        yield "ends at its first closing bracket: write the name without its brackets"
    if LOST_COLON.fullmatch(code):
        yield "is no mapping: name the key and its value apart"


# --- the changelog ---


def fragment_problems(paths: Iterable[Path]) -> list[str]:
    """Changelog fragments with markup of Ansible's documentation, which a changelog shows as it is."""
    return _lines_with(re.compile(r"\b(?:[BCEIMOPUV]|RV)\([^)\s]"), paths, "a changelog is reStructuredText; write ``code``")


# --- workflows ---

PINNED_ACTION = re.compile(r"^\s*(?:- )?uses: [\w.-]+(?:/[\w.-]+)+@[0-9a-f]{40} # v\d+(?:\.\d+)*$")


def workflow_problems(path: Path, targets: set[str]) -> list[str]:
    """Where a workflow of the forge does more than check out, make targets that exist, and keep logs, or may do more than read."""
    try:
        data: dict[Any, Any] = load(path)
    except yaml.YAMLError as error:
        return [f"{path}: not YAML: {error}"]
    # YAML 1.1 reads the key `on` as true.
    problems = [] if data.get("on", data.get(True)) else [f"{path}: nothing starts it"]
    jobs: dict[str, Any] = data.get("jobs") or {}
    if not jobs:
        problems.append(f"{path}: has no jobs")
    if data.get("permissions") != {"contents": "read"} or any("permissions" in job for job in jobs.values()):
        problems.append(f"{path}: permissions have to be 'contents: read' and nothing else")
    for number, line in enumerate(_lines(path), 1):
        if "uses:" in line and not PINNED_ACTION.match(line):
            problems.append(f"{path}:{number}: the action is not pinned by commit, with its version in a comment: {line.strip()}")
    for name, job in jobs.items():
        if "timeout-minutes" not in job:
            problems.append(f"{path}: job {name} has no timeout-minutes")
        for step in job.get("steps") or []:
            problems += [f"{path}: job {name}: {problem}" for problem in step_problems(step, targets)]
    return problems


def step_problems(step: Mapping[str, Any], targets: set[str]) -> Iterator[str]:
    """What is wrong with one step of a job."""
    if str(step.get("uses", "")).startswith("actions/checkout@") and (step.get("with") or {}).get("persist-credentials") is not False:
        yield "the checkout keeps its token: set persist-credentials: false"
    for command in str(step.get("run", "")).splitlines():
        words = command.removeprefix("sudo ").split()
        if words[:1] != ["make"]:
            yield f"runs what no make target does: {command}"
            continue
        for target in words[1:]:
            if target not in targets:
                yield f"names the make target {target}, which does not exist"


# --- secrets and machines ---

KEY_MATERIAL = re.compile(
    r"-----BEGIN [A-Z ]*PRIVATE KEY-----\s*\n?[A-Za-z0-9+/=]{40}|\bAKIA[0-9A-Z]{16}\b|\bgh[pousr]_[A-Za-z0-9]{36}\b"
    r"|://[^/\s:@{}<>$\"'`]+:(?!password\b|secret\b|\*)[^/\s@{}<>$\"'`%]{12,}@"
)
HOST = re.compile(r"(?:https?|file|ssh|socks5h?)://(?:[^/\s@]*@)?([A-Za-z0-9.-]+\.[A-Za-z0-9-]+)")
PUBLIC_HOSTS = (
    "pypi.org",
    "pythonhosted.org",
    "debian.org",
    "ubuntu.com",
    "github.com",
    "docker.com",
    "docker.io",
    "127.0.0.1",
)


def private_hosts(configuration: Iterable[str]) -> set[str]:
    """The hosts that package tools of this machine are set to use and that are not public ones."""
    hosts = {host.lower() for text in configuration for host in HOST.findall(text)}
    return {host for host in hosts if not any(host == name or host.endswith(f".{name}") for name in PUBLIC_HOSTS)}


def text_problems(paths: Iterable[Path], hosts: Iterable[str]) -> list[str]:
    """Key material, or the name of a machine's own package mirror, in a file."""
    names = sorted(hosts)
    problems = []
    for path in paths:
        text = "\n".join(_lines(path))
        if KEY_MATERIAL.search(text):
            problems.append(f"{path}: holds what looks like a key or a password")
        problems += [f"{path}: names the package mirror {name}" for name in names if name in text.lower()]
    return problems


def _lines(path: Path) -> Iterator[str]:
    """A text file's lines; none for a file that is not text or not there."""
    try:
        yield from path.read_text(encoding="utf-8").splitlines()
    except (UnicodeDecodeError, FileNotFoundError):
        return


CONDITIONS = {"when", "that", "until", "failed_when", "changed_when"}


def unparsable_templates(path: Path) -> list[str]:
    """What Jinja cannot read of a template, or of the templates and conditions in a YAML file. ansible-lint passes over them."""
    text = path.read_text(encoding="utf-8")
    templates = [text] if path.suffix == ".j2" else [each for document in yaml.load_all(text, _Tagged) for each in _templates(document)]
    return [f"{path}: {problem}" for problem in map(_syntax_problem, templates) if problem]


class _Tagged(yaml.SafeLoader):
    """Reads values with a tag of Ansible's as if they had none."""


_Tagged.add_multi_constructor(
    "!", lambda loader, _suffix, node: loader.construct_scalar(node) if isinstance(node, yaml.ScalarNode) else None
)


def _templates(value: Any, *, condition: bool = False) -> Iterator[str]:
    if isinstance(value, Mapping):
        for name, each in value.items():
            yield from _templates(each, condition=name in CONDITIONS)
    elif isinstance(value, list):
        for each in value:
            yield from _templates(each, condition=condition)
    elif isinstance(value, str):
        yield "{{ (" + value + ") }}" if condition and "{{" not in value else value


def _syntax_problem(template: str) -> str:
    try:
        jinja2.Environment(extensions=["jinja2.ext.do", "jinja2.ext.loopcontrols"]).parse(template)  # noqa: S701  nothing is rendered
    except jinja2.TemplateSyntaxError as error:
        return f"{error.message} in {template.strip()[:100]!r}"
    return ""
