"""Write each role's README.md and docs/variables.md from the roles' argument specs.

Usage: python tools/generate_docs.py [--check] [--root FOLDER]

What a reader finds comes from three files of a role and from nowhere else:
``meta/argument_specs.yml`` (what it does, its variables), ``meta/main.yml`` (platforms, versions,
role dependencies) and ``defaults/main.yml`` (the defaults that are computed by a template).
With ``--check`` nothing is written: the exit code is 1, with a diff, when a page is stale.
"""

from __future__ import annotations

import argparse
import ast
import dataclasses
import difflib
import json
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from antsibull_docs_parser import dom
from antsibull_docs_parser.parser import Context, parse

NOTICE = "<!-- Generated from meta/argument_specs.yml by `make docs`: edit that file instead. -->"
INDEX_NOTICE = "<!-- Generated from the roles' meta/argument_specs.yml by `make docs`: edit those files instead. -->"

# A role is shown running on the inventory group it is for; the others run wherever Prefect does.
ROLE_GROUPS = {
    "postgres": "postgres",
    "redis": "redis",
    "etcd": "postgres",
    "patroni": "postgres",
    "redis_sentinel": "redis",
    "haproxy": "prefect",
    "prefect_api": "prefect_api",
    "prefect_migrate": "prefect_api[0]",
    "prefect_services": "prefect_services",
    "prefect_worker": "prefect_worker",
    "nginx": "nginx",
    "keepalived": "nginx",
    "certificates": "all",
    "exporters": "all",
    "monitoring": "monitoring",
}

# Where markup is read: without a role around it, an option could not name its entry point, as in O(main:option).
IN_A_ROLE = Context(current_plugin=dom.PluginIdentifier("a.b.c", "role"), role_entrypoint="main")

PLACEHOLDERS: dict[str, Any] = {
    "str": "...",
    "path": "/path/to/file",
    "int": 1,
    "float": 1.0,
    "bool": True,
    "list": [],
    "dict": {},
}


class SpecError(Exception):
    """A role's metadata cannot be documented; the text says which file and why."""


@dataclasses.dataclass(frozen=True)
class Variable:
    """One row of a variables table; `name` of a nested option is dotted."""

    name: str
    type: str
    required: bool
    default: str | None
    description: str


@dataclasses.dataclass(frozen=True)
class Role:
    """A role as its metadata describes it; `shared` has the variables of other roles that it reads, by role."""

    name: str
    title: str
    paragraphs: list[str]
    requirements: list[str]
    variables: list[Variable]
    shared: dict[str, list[str]]
    example: str


def render(part: dom.AnyPart) -> str:
    """One part of Ansible's documentation markup as plain Markdown: names and values as code, links as links."""
    if isinstance(part, dom.ErrorPart):
        raise SpecError(part.message)
    if isinstance(part, dom.TextPart | dom.RSTRefPart):
        return part.text
    if isinstance(part, dom.BoldPart | dom.ItalicPart):
        mark = "**" if isinstance(part, dom.BoldPart) else "*"
        return f"{mark}{part.text}{mark}"
    if isinstance(part, dom.LinkPart | dom.URLPart):
        return f"[{part.text}]({part.url})" if isinstance(part, dom.LinkPart) else f"<{part.url}>"
    return "---" if isinstance(part, dom.HorizontalLinePart) else code(name_or_value(part))


def name_or_value(part: dom.AnyPart) -> str:
    """What a part that is shown as code says."""
    if isinstance(part, dom.OptionNamePart | dom.ReturnValuePart):
        return part.name if part.value is None else f"{part.name}={part.value}"
    if isinstance(part, dom.PluginPart):
        return part.plugin.fqcn
    if isinstance(part, dom.ModulePart):
        return part.fqcn
    if isinstance(part, dom.EnvVariablePart):
        return part.name
    return part.value if isinstance(part, dom.OptionValuePart) else getattr(part, "text", "")


def code(text: str) -> str:
    """`text` as a Markdown code span, with as many backticks around it as its content needs."""
    fence = "`" * (max((len(run) for run in re.findall("`+", text)), default=0) + 1)
    padding = " " if text.startswith("`") or text.endswith("`") else ""
    return f"{fence}{padding}{text}{padding}{fence}"


def markdown(text: object) -> str:
    """One paragraph of Ansible documentation markup in a role's spec as one line of Markdown."""
    paragraphs = parse([str(text)], IN_A_ROLE, errors="exception")
    return " ".join("".join(render(part) for paragraph in paragraphs for part in paragraph).split())


def paragraphs_of(value: object) -> list[str]:
    """A description, given as one text or as a list of them, as Markdown paragraphs."""
    if value is None:
        return []
    return [markdown(item) for item in (value if isinstance(value, list) else [value])]


def literal(value: object) -> str:
    """A default as a reader would type it: JSON for structures, which YAML reads as well."""
    return value if isinstance(value, str) and value else json.dumps(value, ensure_ascii=False)


def type_of(option: Mapping[str, Any]) -> str:
    """The option's type in words, with its elements: `list of str`."""
    kind = str(option.get("type", "str"))
    return f"{kind} of {option['elements']}" if kind == "list" and "elements" in option else kind


def variables_of(options: Mapping[str, Any], defaults: Mapping[str, Any], prefix: str = "") -> Iterator[Variable]:
    """Rows for `options` in the order of the spec, each followed by its nested options."""
    for name, option in options.items():
        if not isinstance(option, Mapping):
            raise SpecError(f"option {prefix}{name}: expected a mapping, got {option!r}")
        has_default, default = "default" in option, option.get("default")
        if not has_default and not prefix and name in defaults:
            has_default, default = True, defaults[name]
        description = paragraphs_of(option.get("description"))
        if "choices" in option:
            description.append("One of " + ", ".join(code(literal(choice)) for choice in option["choices"]) + ".")
        yield Variable(
            name=prefix + name,
            type=type_of(option),
            required=bool(option.get("required", False)),
            default=literal(default) if has_default else None,
            description=" ".join(description),
        )
        yield from variables_of(option.get("options") or {}, {}, f"{prefix}{name}.")


def merged_options(entry_points: Mapping[str, Any]) -> dict[str, Any]:
    """The options of every entry point, those of `main` first, each name once."""
    ordered = sorted(entry_points.items(), key=lambda item: item[0] != "main")
    merged: dict[str, Any] = {}
    for _name, entry in ordered:
        for name, option in ((entry or {}).get("options") or {}).items():
            merged.setdefault(name, option)
    return merged


def requirements_of(meta: Mapping[str, Any], requires_ansible: str | None) -> list[str]:
    """What must be there before the role runs, as lines for a list."""
    galaxy = meta.get("galaxy_info") or {}
    lines = []
    if requires_ansible:
        lines.append(f"ansible-core {requires_ansible} where Ansible runs")
    platforms = [
        f"{item['name']} ({', '.join(map(str, item['versions']))})" if item.get("versions") else str(item["name"])
        for item in galaxy.get("platforms") or []
    ]
    if platforms:
        lines.append("on the target: " + ", ".join(platforms) + ", with systemd and Python 3")
    return lines


WORD = re.compile(r"\b[a-z_][a-z0-9_]+\b")
# What a role checks with the lookup `problems`, whose functions read variables, too.
PROBLEMS = re.compile(r"\.problems', '(\w+)'")


@dataclasses.dataclass(frozen=True)
class Collection:
    """What the roles share: the options of each one, and the text behind each variable that one of them defines."""

    namespace: str
    requires_ansible: str | None
    options: dict[str, dict[str, Any]]
    definitions: dict[str, str]


def read_collection(root: Path) -> Collection:
    """The collection of the checkout at `root`."""
    galaxy = load(root / "galaxy.yml")
    options: dict[str, dict[str, Any]] = {}
    definitions: dict[str, str] = {}
    for folder in sorted((root / "roles").glob("*/")):
        options[folder.name] = merged_options(load(folder / "meta" / "argument_specs.yml").get("argument_specs") or {})
        definitions |= {name: json.dumps(value) for path in variable_files(folder) for name, value in load(path).items()}
    for path in sorted((root / "plugins" / "module_utils" / "_checks").glob("*.py")):
        definitions |= {f"problems:{name}": source for name, source in functions(path).items()}
    return Collection(
        namespace=f"{galaxy.get('namespace', 'selfhosted')}.{galaxy.get('name', 'prefect')}",
        requires_ansible=load(root / "meta" / "runtime.yml").get("requires_ansible"),
        options=options,
        definitions=definitions,
    )


def variable_files(folder: Path) -> list[Path]:
    """Where a role defines variables: `main.yml`, or the files of a folder `main`."""
    kinds = [folder / kind for kind in ("defaults", "vars")]
    return [path for kind in kinds for path in (kind / "main.yml", *sorted((kind / "main").glob("*.yml")))]


def functions(path: Path) -> dict[str, str]:
    """The source of each function of a file, with that of the functions of this file that it calls."""
    text = path.read_text(encoding="utf-8")
    found = {node.name: node for node in ast.parse(text).body if isinstance(node, ast.FunctionDef)}

    def source(name: str) -> str:
        called = {node.id for node in ast.walk(found[name]) if isinstance(node, ast.Name)} & found.keys() - {name}
        return "\n".join([ast.get_source_segment(text, found[name]) or "", *map(source, sorted(called))])

    return {name: source(name) for name in found}


def variables_read(folder: Path, definitions: Mapping[str, str]) -> set[str]:
    """The variables that a role's tasks and templates read, and those that the values of these are made of."""
    files = [path for name in ("tasks", "templates", "handlers") for path in (folder / name).glob("*") if path.is_file()]
    texts = [path.read_text(encoding="utf-8") for path in files]
    waiting = {word for text in texts for word in WORD.findall(text)}
    waiting |= {f"problems:{name}" for text in texts for name in PROBLEMS.findall(text)}
    seen: set[str] = set()
    while waiting:
        seen |= waiting
        waiting = {word for name in waiting & definitions.keys() for word in WORD.findall(definitions[name])} - seen
    return seen


def shared_variables(folder: Path, collection: Collection) -> dict[str, list[str]]:
    """The documented variables of other roles that the role in `folder` reads, by the role that has them."""
    # What several roles list, as with a secret that each of them requires, is the first one's: of `prefect` and `prefect_api` the former.
    owners = {key: name for name, keys in reversed(collection.options.items()) for key in keys}
    read = variables_read(folder, collection.definitions)
    others = {
        name: [key for key in keys if key in read and owners[key] == name]
        for name, keys in collection.options.items()
        if name != folder.name
    }
    return {name: keys for name, keys in others.items() if keys}


def example_of(role: str, namespace: str, options: Mapping[str, Any]) -> str:
    """A play that runs the role with every required variable of `options` set."""
    values: dict[str, Any] = {}
    for name, option in options.items():
        if option.get("required"):
            secret = option.get("no_log") or re.search(r"password|secret|auth_string", name)
            values[name] = f"{{{{ vault_{name} }}}}" if secret else PLACEHOLDERS.get(option.get("type", "str"), "...")
    entry: dict[str, Any] = {"role": f"{namespace}.{role}"}
    play: dict[str, Any] = {"name": f"Run the role {role}", "hosts": ROLE_GROUPS.get(role, "prefect"), "roles": [entry]}
    if values:
        entry["vars"] = values
    return dump_yaml([play])


def dump_yaml(data: object) -> str:
    """YAML in the order given, with lists indented the way yamllint wants them."""

    class Indented(yaml.SafeDumper):
        def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:  # noqa: ARG002 - PyYAML's signature
            super().increase_indent(flow, False)

    def represent(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
        return dumper.represent_scalar("tag:yaml.org,2002:str", text, style='"' if "{{" in text else None)

    Indented.add_representer(str, represent)
    return yaml.dump(data, Dumper=Indented, sort_keys=False, default_flow_style=False, width=120)


def load(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file; empty when there is no such file."""
    if not path.is_file():
        return {}
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise SpecError(f"{path}: not YAML: {error}") from error
    if data is None:
        return {}
    if not isinstance(data, dict):
        raise SpecError(f"{path}: expected a mapping at the top")
    return data


def read_role(folder: Path, collection: Collection) -> Role | None:
    """The role in `folder`, or None when it has no argument spec yet."""
    path = folder / "meta" / "argument_specs.yml"
    entry_points = load(path).get("argument_specs") or {}
    if not entry_points:
        return None
    main = entry_points.get("main")
    if not main:
        raise SpecError(f"{path}: no entry point 'main'")
    options = collection.options[folder.name]
    # A default that roles share is not in the folder of the role that documents it.
    defaults = load(folder.parent / "common" / "defaults" / "main.yml") | load(folder / "defaults" / "main.yml")
    shared = shared_variables(folder, collection)
    needed = {key: collection.options[name][key] for name, keys in shared.items() for key in keys}
    try:
        return Role(
            name=folder.name,
            title=markdown(main.get("short_description") or folder.name),
            paragraphs=paragraphs_of(main.get("description")),
            requirements=requirements_of(load(folder / "meta" / "main.yml"), collection.requires_ansible),
            variables=list(variables_of(options, defaults)),
            shared=shared,
            example=main.get("examples") or example_of(folder.name, collection.namespace, {**needed, **options}),
        )
    except (SpecError, ValueError) as error:
        raise SpecError(f"{path}: {error}") from error


def cell(text: str) -> str:
    """Text that cannot end a table cell."""
    return " ".join(text.replace("|", "\\|").split())


def table(variables: Iterable[Variable]) -> list[str]:
    """The variables as a Markdown table."""
    lines = ["| Variable | Type | Default | Description |", "| --- | --- | --- | --- |"]
    for variable in variables:
        default = "**required**" if variable.required else "" if variable.default is None else code(variable.default)
        cells = (code(variable.name), variable.type, default, variable.description)
        lines.append("| " + " | ".join(cell(text) for text in cells) + " |")
    return lines


def role_page(role: Role, namespace: str) -> str:
    """The README.md of one role."""
    lines = [NOTICE, "", f"# {namespace}.{role.name}", "", role.title, ""]
    for paragraph in role.paragraphs:
        lines += [paragraph, ""]
    if role.requirements:
        lines += ["## Requirements", "", *(f"- {line}" for line in role.requirements), ""]
    lines += ["## Variables", ""]
    lines += table(role.variables) if role.variables else ["This role has none of its own."]
    if role.shared:
        lines += ["", "It also reads these variables of other roles:", ""]
        lines += [f"- [{name}](../{name}/README.md): {', '.join(map(code, keys))}" for name, keys in role.shared.items()]
    lines += ["", "## Example", "", "```yaml", role.example.rstrip(), "```"]
    return "\n".join(lines) + "\n"


def index_page(roles: Iterable[Role]) -> str:
    """docs/variables.md: every variable of every role."""
    lines = [INDEX_NOTICE, "", "# Variables", ""]
    lines += ["Every variable that an inventory may set, by the role that reads it.", ""]
    for role in roles:
        if role.variables:
            lines += [f"## [{role.name}](../roles/{role.name}/README.md)", "", role.title, "", *table(role.variables), ""]
    return "\n".join(lines).rstrip() + "\n"


def pages(root: Path) -> dict[Path, str]:
    """Every generated page of the checkout at `root`, path to content."""
    collection = read_collection(root)
    found = [read_role(folder, collection) for folder in sorted((root / "roles").glob("*/"))]
    roles = [role for role in found if role is not None]
    result = {root / "roles" / role.name / "README.md": role_page(role, collection.namespace) for role in roles}
    result[root / "docs" / "variables.md"] = index_page(roles)
    return result


def stale(expected: Mapping[Path, str], root: Path) -> Iterator[tuple[Path, str]]:
    """The pages whose file differs from `expected`, each with a unified diff."""
    for path, content in expected.items():
        current = path.read_text(encoding="utf-8") if path.is_file() else ""
        if current != content:
            name = str(path.relative_to(root))
            lines = difflib.unified_diff(current.splitlines(keepends=True), content.splitlines(keepends=True), name, f"{name} (generated)")
            yield path, "".join(lines)


def main(arguments: list[str] | None = None) -> int:
    """Write or check the pages; 0 when they are up to date, 1 when stale, 2 when a spec is unusable."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 with a diff when a page is stale")
    parser.add_argument("--root", type=Path, default=Path(__file__).resolve().parent.parent, help="the checkout")
    options = parser.parse_args(arguments)
    try:
        expected = pages(options.root)
    except SpecError as error:
        print(f"generate_docs: {error}", file=sys.stderr)
        return 2
    changed = list(stale(expected, options.root))
    if options.check:
        for _path, diff in changed:
            print(diff, end="")
        if changed:
            print("generate_docs: stale pages; run `make docs` and commit the result", file=sys.stderr)
        return 1 if changed else 0
    for path, _diff in changed:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(expected[path], encoding="utf-8")
        print(f"wrote {path.relative_to(options.root)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
