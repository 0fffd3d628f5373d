"""The generator of the role pages."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools import generate_docs

SPEC = """\
argument_specs:
  main:
    short_description: A web server
    description:
      - Serves C(/) on port O(web_port) or O(main:web_port=81), see L(the site,https://example.org).
    options:
      web_port:
        type: int
        default: 80
        description: The port.
      web_mode:
        choices: [a|b, c]
        description: [How., "Or V(not)."]
      web_address:
        description: Where.
      web_password:
        required: true
        description: Secret.
      web_hosts:
        type: list
        elements: dict
        default: []
        description: Hosts.
        options:
          name:
            required: true
            description: Name.
  install:
    options:
      web_package: {default: "", description: Package.}
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    role = tmp_path / "roles" / "web"
    for name, text in {
        "meta/argument_specs.yml": SPEC,
        "meta/main.yml": "galaxy_info: {platforms: [{name: Debian, versions: [bookworm]}]}\ndependencies: []\n",
        "defaults/main.yml": "web_address: \"{{ x | default('y') }}\"\n",
    }.items():
        path = role / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    (tmp_path / "roles" / "later").mkdir()
    return tmp_path


def page(checkout: Path, role: str = "web") -> str:
    return (checkout / "roles" / role / "README.md").read_text(encoding="utf-8")


def test_page(checkout: Path) -> None:
    assert generate_docs.main(["--root", str(checkout)]) == 0
    lines = page(checkout).splitlines()
    for line in (
        "# selfhosted.prefect.web",
        "A web server",
        "Serves `/` on port `web_port` or `web_port=81`, see [the site](https://example.org).",
        "- on the target: Debian (bookworm), with systemd and Python 3",
        "| `web_port` | int | `80` | The port. |",
        "| `web_mode` | str |  | How. Or `not`. One of `a\\|b`, `c`. |",
        "| `web_address` | str | `{{ x \\| default('y') }}` | Where. |",
        "| `web_password` | str | **required** | Secret. |",
        "| `web_hosts` | list of dict | `[]` | Hosts. |",
        "| `web_hosts.name` | str | **required** | Name. |",
        '| `web_package` | str | `""` | Package. |',
        '        web_password: "{{ vault_web_password }}"',
    ):
        assert line in lines
    assert not (checkout / "roles" / "later" / "README.md").exists()


def test_variables_of_other_roles(checkout: Path) -> None:
    """Found through the variables that the role's own are made of; those that are required are in the example."""
    for name, text in {
        "meta/argument_specs.yml": "argument_specs: {main: {options: {}}}",
        "vars/main.yml": '__other_url: "{{ web_port }}:{{ web_password }}"',
        "tasks/main.yml": '- debug: {msg: "{{ __other_url }}"}',
    }.items():
        path = checkout / "roles" / "other" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    generate_docs.main(["--root", str(checkout)])
    text = page(checkout, "other")
    assert "- [web](../web/README.md): `web_port`, `web_password`\n" in text
    assert 'web_password: "{{ vault_web_password }}"' in text
    assert "other roles" not in page(checkout)


def test_index(checkout: Path) -> None:
    generate_docs.main(["--root", str(checkout)])
    index = (checkout / "docs" / "variables.md").read_text(encoding="utf-8")
    assert "## [web](../roles/web/README.md)" in index
    assert "| `web_port` | int | `80` | The port. |" in index


def test_own_example_wins(checkout: Path) -> None:
    spec = checkout / "roles" / "web" / "meta" / "argument_specs.yml"
    text = SPEC.replace("    options:\n      web_port", "    examples: |\n      - hosts: mine\n    options:\n      web_port")
    spec.write_text(text, encoding="utf-8")
    generate_docs.main(["--root", str(checkout)])
    assert "```yaml\n- hosts: mine\n```" in page(checkout)


def test_check(checkout: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--root", str(checkout), "--check"]
    assert generate_docs.main(arguments) == 1
    assert "+| `web_port` | int | `80` | The port. |" in capsys.readouterr().out
    assert not (checkout / "docs").exists(), "--check wrote a file"
    generate_docs.main(arguments[:2])
    assert generate_docs.main(arguments) == 0


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (": no", "not YAML"),
        ("[]", "expected a mapping"),
        ("argument_specs: {other: {}}", "no entry point 'main'"),
        ("argument_specs: {main: {options: {web_port: 1}}}", "option web_port: expected a mapping"),
        ("argument_specs: {main: {options: {web_port: {description: 'L(x)'}}}}", "argument_specs.yml"),
    ],
)
def test_unusable_spec(checkout: Path, capsys: pytest.CaptureFixture[str], spec: str, message: str) -> None:
    (checkout / "roles" / "web" / "meta" / "argument_specs.yml").write_text(spec, encoding="utf-8")
    assert generate_docs.main(["--root", str(checkout)]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(("text", "expected"), [("a", "`a`"), ("a`b", "``a`b``"), ("`a", "`` `a ``")])
def test_code(text: str, expected: str) -> None:
    assert generate_docs.code(text) == expected
