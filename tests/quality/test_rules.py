"""Each rule on a small example that breaks it and on one that does not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.quality import rules


def write_role(root: Path, defaults: dict[str, Any], options: dict[str, Any] | None) -> Path:
    role = root / "roles" / "web"
    (role / "defaults").mkdir(parents=True)
    (role / "meta").mkdir()
    (role / "defaults" / "main.yml").write_text(yaml.safe_dump(defaults), encoding="utf-8")
    if options is not None:
        spec = {"argument_specs": {"main": {"options": options}}}
        (role / "meta" / "argument_specs.yml").write_text(yaml.safe_dump(spec), encoding="utf-8")
    return role


def option(**values: object) -> dict[str, Any]:
    return {"description": "Text.", **values}


@pytest.mark.parametrize(
    ("defaults", "options", "expected"),
    [
        pytest.param({"web_port": 80}, {"web_port": option(type="int", default=80)}, None, id="equal"),
        pytest.param({"web_port": "{{ x }}"}, {"web_port": option(type="int")}, None, id="computed"),
        pytest.param({}, {"web_secret": option(required=True)}, None, id="required"),
        pytest.param({}, {"other_port": option(default=1)}, None, id="shared"),
        pytest.param({}, {"other_port": option()}, None, id="shared without default"),
        pytest.param({}, None, "no entry point", id="no spec"),
        pytest.param({"web_port": 80}, {"x": option(required=True)}, "web_port has a default and no entry", id="undocumented"),
        pytest.param({}, {"web_port": option()}, "has no default in", id="documented only"),
        pytest.param({"web_port": 81}, {"web_port": option(default=80)}, "defaults to 81", id="other value"),
        pytest.param({"web_tls": 1}, {"web_tls": option(default=True)}, "defaults to 1", id="other type"),
        pytest.param({"web_tls": ""}, {"web_tls": option(default=None)}, "defaults to ''", id="empty is not null"),
        pytest.param({"web_port": 80}, {"web_port": option()}, "lacks its default", id="default left out"),
        pytest.param({"web_secret": ""}, {"web_secret": option(required=True)}, "is required and has", id="required default"),
        pytest.param({}, {"other_port": option(default=2)}, "defaults to 1", id="shared, other value"),
        pytest.param({"web_port": 80}, {"web_port": {"default": 80}}, "no description", id="no description"),
    ],
)
def test_spec_problems(tmp_path: Path, defaults: dict[str, Any], options: dict[str, Any] | None, expected: str | None) -> None:
    problems = rules.spec_problems(write_role(tmp_path, defaults, options), {"other_port": 1})
    assert [expected in problem for problem in problems if expected] == ([True] if expected else []), problems
    assert bool(problems) == bool(expected)


@pytest.mark.parametrize(
    ("line", "caught"),
    [
        ('x: "{{ a | intersect(b) }}"', True),
        ('x: "{{ a |difference(b) | first }}"', True),
        ('x: "{{ a | ansible.builtin.union(b) }}"', True),
        ('x: "{{ a | symmetric_difference(b) }}"', True),
        ("x: \"{{ a | select('in', b) | unique }}\"", False),
        ("# The difference between a and b", False),
    ],
)
def test_set_filter_problems(tmp_path: Path, line: str, caught: bool) -> None:
    (tmp_path / "main.yml").write_text(f"{line}\n", encoding="utf-8")
    assert bool(rules.set_filter_problems([tmp_path / "main.yml"])) == caught


@pytest.mark.parametrize(
    ("line", "caught"),
    [
        ('return "<table>" + rows', True),
        ("return f'<td class=number>{value}</td>'", True),
        ('return f"<{name}>{content}"', True),
        ('return f"{content}</{name}>"', True),
        ("""return f'<rect x="{x:g}"/>'""", True),
        ("""parts = {"viewBox": "0 0 1 1"}""", True),
        ('"<title>" + words + "</title>"', True),
        ("PATTERN = re.compile(r'<(script|link)\\b[^>]*>')", False),
        ('if b"<html" not in answer.body:', False),
        ('f"{cell:<{width}}"', False),
        ("<host>/system.txt          load, memory, disks", False),
        ('re.compile(r"(?P<time>\\d+)/")', False),
        ("if 1 < number > 2:", False),
    ],
)
def test_markup_problems(tmp_path: Path, line: str, caught: bool) -> None:
    (tmp_path / "page.py").write_text(f"{line}\n", encoding="utf-8")
    assert bool(rules.markup_problems([tmp_path / "page.py"])) == caught


def test_naming_problems(tmp_path: Path) -> None:
    role = write_role(tmp_path, {"web_port": 80, "port": 80}, {})
    assert rules.naming_problems(role) == ["web: port does not begin with web_"]


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ("{{ ansible_host | default(inventory_hostname) }}", False),
        ("{{ ansible_facts['memtotal_mb'] }}", True),
        ("{{ ansible_default_ipv4.address }}", True),
        ("{{ ansible_play_hosts }}", True),
    ],
)
def test_fact_problems(tmp_path: Path, value: str, found: bool) -> None:
    assert bool(rules.fact_problems(write_role(tmp_path, {"web_value": value}, {}))) == found


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("{{ groups['postgres'][0] }}", True),
        ("{{ hostvars[groups['postgres'][0]]['ansible_host'] }}", True),
        ('{{ groups["postgres"] | first }}', True),
        ("{{ groups.postgres[0] }}", True),
        ("{{ groups.postgres.0 }}", True),
        ("{{ groups[name] | last }}", True),
        ("{{ groups.get('postgres')[0] }}", True),
        ("{{ common_groups['postgres'] | first }}", True),
        ("{{ (groups['postgres'] | default([])) | first }}", True),
        ("{{ groups['postgres'] | default([]) | selfhosted.prefect.group_address(hostvars) }}", False),
        ("{% for host in groups['prefect_api'] %}", False),
    ],
)
def test_group_index_problems(tmp_path: Path, line: str, found: bool) -> None:
    template = tmp_path / "page.j2"
    template.write_text(line, encoding="utf-8")
    assert bool(rules.group_index_problems([template])) == found


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("hosts: \"{{ groups['nginx'] | default([]) }}\"", True),
        ('hosts: "{{ groups.nginx }}"', True),
        ("{{ groups | selfhosted.prefect.first_host('nginx') }}", True),
        ("{{ openings(groups, hostvars) }}", True),
        ("hosts: \"{{ common_groups['nginx'] }}\"", False),
        ("    groups: [pg_monitor]", False),
        ("{{ rules | map(attribute='groups') | flatten }}", False),
        ("# Those of other groups, which", False),
    ],
)
def test_inventory_groups_problems(tmp_path: Path, line: str, found: bool) -> None:
    path = tmp_path / "main.yml"
    path.write_text(line, encoding="utf-8")
    assert bool(rules.inventory_groups_problems([path])) == found


@pytest.mark.parametrize(
    ("hosts", "found"),
    [
        ("hosts: nginx", True),
        ("hosts: \"nginx:!{{ common_leaving | default('ungrouped') }}\"", False),
        ('hosts: "{{ common_hosts }}"', False),
        ('hosts: "{{ common_worker_hosts }}"', False),
        ("ansible.builtin.import_playbook: nginx.yml", False),
    ],
)
def test_play_hosts_problems(tmp_path: Path, hosts: str, found: bool) -> None:
    path = tmp_path / "step.yml"
    path.write_text(f"- name: A step\n  {hosts}\n", encoding="utf-8")
    assert bool(rules.play_hosts_problems([path])) == found


@pytest.mark.parametrize(
    ("task", "found"),
    [
        ("{ansible.builtin.import_role: {name: selfhosted.prefect.web}, when: it_is_wanted}", True),
        ("{when: it_is_wanted, block: [{ansible.builtin.import_role: {name: selfhosted.prefect.web}}]}", True),
        ("{block: [], rescue: [{ansible.builtin.import_role: {name: selfhosted.prefect.web}, when: it_is_wanted}]}", True),
        ("{hosts: all, tasks: [{ansible.builtin.import_role: {name: selfhosted.prefect.web}, when: it_is_wanted}]}", True),
        ("{ansible.builtin.import_role: {name: selfhosted.prefect.web}}", False),
        ("{ansible.builtin.include_role: {name: selfhosted.prefect.web}, when: it_is_wanted}", False),
        ("{ansible.builtin.import_role: {name: selfhosted.prefect.without_handlers}, when: it_is_wanted}", False),
    ],
)
def test_conditional_import_problems(tmp_path: Path, task: str, found: bool) -> None:
    path = tmp_path / "main.yml"
    path.write_text(f"- {task}\n", encoding="utf-8")
    assert bool(rules.conditional_import_problems([path], ["web"])) == found


@pytest.mark.parametrize(
    ("lines", "found"),
    [
        ("path: '{{ __web_file }}'\n", True),
        ("when: __web_file is defined\n", True),
        ("path: '{{ __web_file }}'\nvars:\n  __web_file: a\n", False),
        ("- stat: {path: a}\n  register: __web_file\n- debug: {msg: '{{ __web_file.stat }}'}\n", False),
        ("{% set __web_file = 1 %}{{ __web_file }}\n", False),
        ("{{ [__file for __file in found] }}{% for __key, value in all %}{{ __key }}{% endfor %}\n", False),
        ("# What __web_file was.\nsql: '__sentinel__'\n", False),
    ],
)
def test_undefined_private_problems(tmp_path: Path, lines: str, found: bool) -> None:
    path = tmp_path / "main.yml"
    path.write_text(lines, encoding="utf-8")
    assert bool(rules.undefined_private_problems([path])) == found


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("all: {vars: {web_release: new}}\n", True),
        ("all: {vars: {web_port: 80}}\n", False),
        ("all: {hosts: {web1: {web_release: new}}}\n", False),
        ("all: {children: {web: {vars: {web_release: new}}}}\n", False),
    ],
)
def test_shadowed_variable_problems(tmp_path: Path, text: str, found: bool) -> None:
    (tmp_path / "group_vars").mkdir()
    (tmp_path / "group_vars" / "all.yml").write_text("web_release: old\n", encoding="utf-8")
    (tmp_path / "hosts.yml").write_text(text, encoding="utf-8")
    assert bool(list(rules.shadowed_variable_problems(tmp_path))) == found


@pytest.mark.parametrize(
    ("lines", "found"),
    [
        ("__web_problem: >-\n  {{ '' if web_port\n     else 'web_port is missing: set it' }}\n", True),
        ("  vars:\n    __problems: \"{{ ['a port is missing'] }}\"\n", True),
        (
            "__web_problems: \"{{ query('selfhosted.prefect.problems', 'web') | map('join', ': ') }}\"\ntitle: 'the first page'\n",
            False,
        ),
        ("msg: \"{{ 'a port is missing' }}\"\n", False),
    ],
)
def test_worded_problems(tmp_path: Path, lines: str, found: bool) -> None:
    path = tmp_path / "main.yml"
    path.write_text(lines, encoding="utf-8")
    assert bool(rules.worded_problems([path])) == found


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("prefect_version: 1.2.3", True),
        ("prefect==1.2.3", True),
        ("ends with 1.2.3.", True),
        ("run: tool 1.2.3 # as an example", True),
        ("# for example 1.2.3", False),
        ("1.2.30", False),
        ("11.2.3", False),
        ("1.2.3.1", False),
    ],
)
def test_pin_problems(tmp_path: Path, line: str, found: bool) -> None:
    path = tmp_path / "file"
    path.write_text(line, encoding="utf-8")
    assert bool(rules.pin_problems("1.2.3", [path])) == found


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("[a](other.md)", False),
        ("[a](other.md#a-heading-with-code)", False),
        ("[a](#here)\n\n# Here\n", False),
        ("[a](https://example.org/x)", False),
        ("`[a](missing.md)`", False),
        ("```\n[a](missing.md)\n```", False),
        ("[a](missing.md)", True),
        ("![a](missing.svg)", True),
        ("[a](other.md#missing)", True),
        ("[a](#missing)", True),
    ],
)
def test_link_problems(tmp_path: Path, text: str, found: bool) -> None:
    (tmp_path / "other.md").write_text("## A heading, with `code`\n", encoding="utf-8")
    page = tmp_path / "page.md"
    page.write_text(text, encoding="utf-8")
    assert bool(rules.link_problems(page)) == found


@pytest.mark.parametrize(
    ("text", "missing"),
    [
        ("`playbooks/site.yml`", None),
        ("`playbooks/gone.yml`", "playbooks/gone.yml"),
        ("selfhosted.prefect.site and selfhosted.prefect.web", None),
        ("selfhosted.prefect.gone", "gone"),
        ("`molecule test -s ha`", None),
        ("`molecule test -s gone`", "gone"),
        ("`make test`", None),
        ("`make lock VERSION=1.2.3`", None),
        ("make gone", "gone"),
        ("we make sense", None),
        ("`web_port`", None),
        ("`web_gone`", "web_gone"),
        ("see `roles/web`", None),
        ("see `roles/gone`", "roles/gone"),
    ],
)
def test_names_problems(tmp_path: Path, text: str, missing: str | None) -> None:
    write_role(tmp_path, {"web_port": 80}, {})
    for folder in ("playbooks", "molecule/ha"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "playbooks" / "site.yml").write_text("---\n", encoding="utf-8")
    (tmp_path / "Makefile").write_text("VENV := x\ntest lock: all\n\t@true\n", encoding="utf-8")
    page = tmp_path / "page.md"
    page.write_text(text, encoding="utf-8")
    problems = rules.names_problems(page, tmp_path, rules.known_names(tmp_path))
    assert len(problems) == (1 if missing else 0), problems
    assert missing is None or missing in problems[0]


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("see /home/user/notes", True),
        ("cd /root/x", True),
        ("/src/here/other", True),
        ("/src/there", False),
        ("https://example.org/home/a", False),
        ("/var/lib/prefect", False),
    ],
)
def test_local_path_problems(tmp_path: Path, line: str, found: bool) -> None:
    page = tmp_path / "page.md"
    page.write_text(line, encoding="utf-8")
    assert bool(rules.local_path_problems([page], Path("/src/here/checkout"))) == found


def test_private_hosts() -> None:
    public = [f"https://mirror.{name}/simple" for name in rules.PUBLIC_HOSTS]
    configuration = ["index-url = https://user:x@pip.corp.test/simple", *public]
    assert rules.private_hosts(configuration) == {"pip.corp.test"}


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("-----BEGIN " + "OPENSSH PRIVATE KEY-----\n" + "b3BlbnNzaC1rZXktdjEAAAAABG5vbmUAAAAEbm9uZQAAAAAAAAAB", True),
        ("a marker: -----BEGIN PRIVATE" + " KEY-----", False),
        ("url: postgresql://prefect:Xu7Qp0Zk2Lw9aa" + "@db/prefect", True),
        ("url: postgresql://prefect:{{ password }}@db/prefect", False),
        ("index: https://pip.corp.test/simple", True),
        ("nothing", False),
    ],
)
def test_text_problems(tmp_path: Path, line: str, found: bool) -> None:
    path = tmp_path / "file"
    path.write_text(line, encoding="utf-8")
    assert bool(rules.text_problems([path], {"pip.corp.test"})) == found


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("# `make test` does it", False),
        ("exec make test", False),
        ('fail "run make gone"', True),
        ("run `make gone` first", True),
        ("``make gone``", True),
        ("once a day (make gone)", True),
        ("- run: sudo make gone", True),
        ("write it with make gone VERSION=1", True),
        ("`make VERSION=1 gone`", True),
        ("what lets them make sense of it", False),
        ("no lock; make lock VERSION=1 makes one", False),
    ],
)
def test_make_problems(tmp_path: Path, line: str, found: bool) -> None:
    path = tmp_path / "file"
    path.write_text(f"first\n{line}\n", encoding="utf-8")
    problems = rules.make_problems([path], {"test", "lock"})
    assert problems == ([f"{path}:2: names the make target gone, which does not exist"] if found else [])


@pytest.mark.parametrize(("target", "found"), [("pins", False), ("other", True), ("gone", True)])
def test_maker_problems(tmp_path: Path, target: str, found: bool) -> None:
    (tmp_path / "Makefile").write_text("other:\n\t@true\npins: other ## Pin\n\t@cd x\n\t@pin a.in\n", encoding="utf-8")
    (tmp_path / "a.in").write_text(f"# `make {target}` reads this.\n", encoding="utf-8")
    assert bool(rules.maker_problems(tmp_path / "Makefile", [tmp_path / "a.in"])) == found


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("C(.delay), V(true) and O(web_port=80)", False),
        ("C(.delay())", True),
        (r"V(f(\))", False),
        ("V(f()", True),
        ("C(a\n  (b)", True),
        ("C(web{server,state})", False),
        ("C({{ a, b }})", False),
        ("C({WEB_PORT, 80})", True),
        ("OSError(f())", False),
    ],
)
def test_documented_code_problems(tmp_path: Path, text: str, found: bool) -> None:
    path = tmp_path / "argument_specs.yml"
    path.write_text(f"description: {text}\n", encoding="utf-8")
    assert bool(rules.documented_code_problems([path])) == found


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("``web_port`` (new)", False),
        ("a list of A(b)", False),
        ("C(web_port)", True),
        ("RV(x)", True),
    ],
)
def test_fragment_problems(tmp_path: Path, text: str, found: bool) -> None:
    path = tmp_path / "web.yml"
    path.write_text(f"minor_changes:\n  - web - {text}.\n", encoding="utf-8")
    assert bool(rules.fragment_problems([path])) == found


WORKFLOW = """\
on: push
permissions:
  contents: read
jobs:
  test:
    timeout-minutes: 5
    steps:
      - uses: actions/checkout@0123456789012345678901234567890123456789 # v1.2.3
        with:
          persist-credentials: false
      - run: sudo make lock test
"""


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("", "", None),
        ("on: push", "on: {", "not YAML"),
        ("on: push", "name: test", "nothing starts it"),
        ("jobs:", "work:", "has no jobs"),
        ("contents: read", "contents: write", "permissions have to be"),
        ("permissions:", "env:", "permissions have to be"),
        ("    steps:", "    permissions: write-all\n    steps:", "permissions have to be"),
        ("0123456789012345678901234567890123456789 # v1.2.3", "v1", "not pinned"),
        (" # v1.2.3", "", "not pinned"),
        ("    timeout-minutes: 5\n", "", "no timeout-minutes"),
        ("persist-credentials: false", "fetch-depth: 1", "keeps its token"),
        ("lock test", "gone", "make target gone"),
        ("sudo make lock test", "curl https://example.org", "runs what no make target does"),
    ],
)
def test_workflow_problems(tmp_path: Path, old: str, new: str, problem: str | None) -> None:
    path = tmp_path / "test.yml"
    path.write_text(WORKFLOW.replace(old, new, 1), encoding="utf-8")
    problems = rules.workflow_problems(path, {"lock", "test"})
    assert len(problems) == (1 if problem else 0), problems
    assert problem is None or problem in problems[0]


@pytest.mark.parametrize(
    ("line", "caught"),
    [
        ("x: '{{ prefect_remove_hosts }}'", True),
        ("x: '{{ prefect_remove_host }}'", False),
        ("x: 1  # prefect_remove_hosts", False),
        ("selfhosted.prefect.prefect_drain:", False),
        ("x: '{{ __prefect_found }}'", False),
    ],
)
def test_undocumented_variable_problems(tmp_path: Path, line: str, caught: bool) -> None:
    page = tmp_path / "remove.yml"
    page.write_text(f"---\n{line}\n", encoding="utf-8")
    known = {"variables": {"prefect_remove_host"}, "fqcn": {"prefect_drain"}}
    assert bool(rules.undocumented_variable_problems([page], known)) is caught


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        pytest.param("a.yml", "- x: \"{{ f(*several, 'one') }}\"", "invalid syntax for function call", id="an argument after several"),
        pytest.param("a.yml", "- when: a is defined and", "unexpected", id="half a condition"),
        pytest.param("a.yml", "- that: [a == 1, b ==]", "unexpected", id="one condition of a list"),
        pytest.param("a.j2", "{% if a %}", "Unexpected end of template", id="a template without its end"),
        pytest.param("a.yml", "- x: !unsafe '{{ y }}'\n  when: a is defined\n  that: ['{{ a }}', b]", None, id="whole"),
        pytest.param("a.yml", "a: 1\n---\n- when: true", None, id="two documents, and no text"),
    ],
)
def test_unparsable_templates(tmp_path: Path, name: str, text: str, expected: str | None) -> None:
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    problems = rules.unparsable_templates(path)
    assert len(problems) == (expected is not None)
    assert (expected or "") in "".join(problems)
