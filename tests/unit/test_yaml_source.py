"""YAML is read with positions, as YAML 1.2, and without anything a recipe has no need of."""

import json
import re

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from runner.errors import RunnerError
from runner.recipes.yaml_nodes import MAX_DEPTH
from runner.recipes.yaml_source import MAX_BYTES, Position, Problem, load_yaml

PLACE = re.compile(r"^[^:]+\.yaml(:[1-9]\d*:[1-9]\d*)?: \S")


_QUOTED = "text that holds one needs quotes"


@pytest.fixture(scope="session")
def file(tmp_path_factory):
    return tmp_path_factory.mktemp("yaml") / "x.yaml"


def load(file, content):
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return load_yaml(file)


def refusal(file, content):
    """Return the message without the folder, as a user sees it, and the hint."""
    with pytest.raises(RunnerError) as refused:
        load(file, content)
    message = refused.value.message.removeprefix(f"{file.parent}/")
    assert PLACE.match(message), message
    return message, refused.value.hint


def outcome(file, content):
    """Return the source or the refusal; any other exception fails the test."""
    try:
        return load(file, content)
    except RunnerError as refused:
        return refused


@pytest.mark.parametrize(
    ("scalar", "value"),
    [
        ("1", 1),
        ("-1", -1),
        ("+7", 7),
        ("010", 10),
        ("1.5", 1.5),
        ("1e-3", 0.001),
        ("1.E5", 1e5),
        (".5", 0.5),
        ("true", True),
        ("False", False),
        ("null", None),
        ("~", None),
        ("", None),
        ("9223372036854775807", 2**63 - 1),
        ("-9223372036854775808", -(2**63)),
        ("no", "no"),
        ("on", "on"),
        ("1_000", "1_000"),
        ("12:30", "12:30"),
        ("0x1f", "0x1f"),
        (".inf", ".inf"),
        (".nan", ".nan"),
        ("2026-01-01", "2026-01-01"),
        ("7d", "7d"),
        ("'1'", "1"),
        ('"true"', "true"),
        ('"a\\tb"', "a\tb"),
        ("ümlaut 😀", "ümlaut 😀"),
    ],
)
def test_scalars_mean_what_they_mean_in_yaml_1_2(file, scalar, value):
    read = load(file, f"key: {scalar}").data["key"]
    assert read == value
    assert type(read) is type(value)


def test_values_stand_where_an_editor_shows_them(file):
    source = load(file, "# a comment\na: {b: 1, c: [x, y]}\nd:\n  - e: 2\n    f: é, g\n")
    assert source.data == {"a": {"b": 1, "c": ["x", "y"]}, "d": [{"e": 2, "f": "é, g"}]}
    assert source.positions == {
        (): (2, 1),
        ("a",): (2, 1),
        ("a", "b"): (2, 5),
        ("a", "c"): (2, 11),
        ("a", "c", 0): (2, 15),
        ("a", "c", 1): (2, 18),
        ("d",): (3, 1),
        ("d", 0): (4, 5),
        ("d", 0, "e"): (4, 5),
        ("d", 0, "f"): (5, 5),
    }
    assert source.text.startswith("# a comment")


def test_a_missing_key_is_looked_for_in_what_should_hold_it(file):
    source = load(file, "a:\n  b: {c: 1}\n")
    assert source.position(("a", "b", "missing", 3)) == Position(2, 3)
    assert source.position(("missing",)) == Position(1, 1)


def test_an_error_says_file_line_column_and_key(file):
    error = load(file, "a:\n  - b c: 1\n").error(("a", 0, "b c"), "too small", "make it larger")
    assert error.message == f"{file}:2:5: a[0].'b c': too small"
    assert error.hint == "make it larger"


def test_several_problems_are_one_error_in_the_order_of_the_file(file):
    source = load(file, "a: 1\nb: 2\n")
    problems = [Problem(("b",), "no", "x"), Problem(("a",), "nor", "y"), Problem((), "top", "z")]
    error = source.errors(problems)
    assert error.message == f"{file}:1:1: a: nor; {file}:1:1: top; {file}:2:1: b: no"
    assert error.hint == (
        f"correct these 3 places, which `runner check {file}` lists one by one, then run the same "
        "command again"
    )
    assert source.errors(problems[:1]).hint == "x"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "x.yaml:1:1: empty; expected `key: value` lines"),
        ("# only a comment", "x.yaml:1:1: empty; expected `key: value` lines"),
        ("- a\n- b", "x.yaml:1:1: expected `key: value` lines"),
        ("\n\n  text", "x.yaml:3:3: expected `key: value` lines"),
        ("a: 1\nb: 2\na: 3", "x.yaml:3:1: key 'a' occurs twice, first in line 1"),
        ("a: {b: 1, 'b': 2}", "x.yaml:1:11: key 'b' occurs twice, first in line 1"),
        ("a: &x 1\nb: *x", "x.yaml:1:4: anchors and aliases are not taken"),
        ("a: *x", "x.yaml:1:4: anchors and aliases are not taken"),
        ("a: &x [&y {}]", "x.yaml:1:4: anchors and aliases are not taken"),
        ("a: !!str 1", "x.yaml:1:4: tag tag:yaml.org,2002:str is not taken"),
        ("a: !!python/object:os.system x", "x.yaml:1:4: tag tag:yaml.org,2002:python/object:"),
        ("a: !here 1", "x.yaml:1:4: tag !here is not taken"),
        ("a: ! 1", "x.yaml:1:4: tag ! is not taken"),
        ("1: a", "x.yaml:1:1: a key that is not text"),
        ("true: a", "x.yaml:1:1: a key that is not text"),
        ("? [a, b]\n: c", "x.yaml:1:3: a key that is not text"),
        ("?\n: c", "x.yaml:1:2: a key that is not text"),
        ("a: 9223372036854775808", "x.yaml:1:4: '9223372036854775808' does not fit in 64 bits"),
        ("a: -1" + "0" * 5000, "x.yaml:1:4: '-1000"),
        ("a: 1e999", "x.yaml:1:4: '1e999' does not fit in 64 bits"),
        ('a: "\\0"', "x.yaml:1:4: an escaped control character"),
        ('a: "\\ud83d"', "x.yaml:1:4: an escaped control character"),
        ('"\\a": 1', "x.yaml:1:1: an escaped control character"),
        ("a: 1\nb: \x07", "x.yaml:2:4: a control character"),
        ('a: "\\UFFFFFFFF"', "x.yaml:1:1: not valid YAML: "),
        ("a: b: c", "x.yaml:1:5: not valid YAML: mapping values are not allowed here"),
        ("a: [1, 2", "x.yaml:1:9: not valid YAML: expected ',' or ']', but got '<stream end>'"),
        ("a: 'x", "x.yaml:1:6: not valid YAML: found unexpected end of stream"),
        ("\ta: 1", "x.yaml:1:1: not valid YAML: a tab"),
        ("a:\n  b: 1\n\tc: 2", "x.yaml:3:1: not valid YAML: a tab"),
        ("a: 1\n---\nb: 2", "x.yaml:2:1: a second document begins"),
        ("a: 1\nb:2\nc: 3", "x.yaml:2:1: expected `key: value`"),
        ("a: [*, b]", "x.yaml:1:5: not valid YAML: text that begins with * or & is not in quotes"),
        ("a: @b", "x.yaml:1:4: not valid YAML: found character '@' that cannot start any token"),
        ("a: {b: 1\nc: 2", "x.yaml:2:2: not valid YAML: "),
        ("a:\n  b: 1\n c: 2", "x.yaml:3:2: not valid YAML: it does not fit what comes before"),
        ("a: 'the user's'", "x.yaml:1:14: not valid YAML: it does not fit what comes before"),
        ("a: {{ b }}", "x.yaml:1:5: a key that is not text"),
        ("a: {<<: {b: 1}}", "x.yaml:1:5: merge keys are not taken"),
        ("a: " + "[" * 100_000, "x.yaml: larger than 64 KiB"),
        ("a: " + "[" * 60_000, "x.yaml:1:19: nested more than 16 levels deep"),
        ("a: " + "{a: " * 10_000, "x.yaml:1:"),
        (b"a: 1\nb: x\xff", "x.yaml:2:5: not UTF-8 text"),
        ("a: 1".encode("utf-16"), "x.yaml:1:1: not UTF-8 text"),
    ],
)
def test_what_no_recipe_needs_is_refused_with_its_place(file, content, message):
    told, hint = refusal(file, content)
    assert told.startswith(message)
    assert hint
    assert "\n" not in told
    assert len(told) < 200


@pytest.mark.parametrize(
    ("content", "hint"),
    [
        ("a:\n\tb: 1", "write spaces instead"),
        ("a: 1\nb:2\nc: 3", "write the colon, and a space after it"),
        ("a: [b, *]", 'put it in quotes, such as "user_activity:*"'),
        ("a: `b`", "text that begins with this character needs quotes"),
        ("a: b: c", "indent keys alike; text that holds `: `, ` #` or a bracket needs quotes"),
        ("a: 'the user's'", "indent keys alike, and close every quote and bracket"),
        ("a: {{ b }}", "text that begins with { or [ needs quotes"),
        ("b: 1\na: {b: 1\nc: 2", f"close the bracket {{ that opens in line 2; {_QUOTED}"),
        ("a: [1, 2", f"close the bracket [ that opens in line 1; {_QUOTED}"),
        ("a: 'x\nb: 1", f"close the quote that opens in line 1; {_QUOTED}"),
        ('a: "x', f"close the quote that opens in line 1; {_QUOTED}"),
        ("a: {0: 1}", "put it in quotes, such as '0': …"),
    ],
)
def test_the_hint_says_what_to_write_instead(file, content, hint):
    assert refusal(file, content)[1] == hint


@pytest.mark.parametrize("end", ["\r\n", "\r", "\n"])
def test_lines_are_counted_whatever_ends_them(file, end):
    assert load(file, end.join(["a: 1", "b:", "  c: 2"])).positions["b", "c"] == (3, 3)


def test_a_billion_laughs_are_refused_before_they_are_expanded(file):
    bomb = "a0: &a0 ha\n" + "".join(
        f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 12)
    )
    assert refusal(file, bomb)[0] == "x.yaml:1:5: anchors and aliases are not taken"


def test_the_largest_and_deepest_file_is_read(file):
    text = "a: " + "[" * (MAX_DEPTH - 1) + "]" * (MAX_DEPTH - 1) + "\n"
    text += "#" * (MAX_BYTES - len(text))
    assert load(file, text).data["a"]
    assert "larger" in refusal(file, text + "#")[0]


def test_a_byte_order_mark_is_no_part_of_the_first_key(file):
    assert load(file, b"\xef\xbb\xbfa: 1").data == {"a": 1}


def test_a_file_that_cannot_be_read_says_why(tmp_path):
    with pytest.raises(RunnerError, match=r"no\.yaml: no such file or directory"):
        load_yaml(tmp_path / "no.yaml")
    with pytest.raises(RunnerError, match="is a directory"):
        load_yaml(tmp_path)


texts = st.text(st.characters(max_codepoint=0xD7FF, exclude_categories=["Cc", "Cs"]), max_size=30)
numbers = st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False)
values = st.recursive(
    st.none() | st.booleans() | numbers | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=12,
)


@given(st.dictionaries(texts, values, max_size=5))
def test_json_is_read_as_json(file, value):
    assert load(file, json.dumps(value)).data == value


def same_in_both_versions(value):
    """Whether PyYAML writes the value so that YAML 1.1 and 1.2 agree about it."""
    if isinstance(value, list):
        return all(map(same_in_both_versions, value))
    if isinstance(value, dict):
        return all(map(same_in_both_versions, [*value, *value.values()]))
    return not isinstance(value, str) or re.fullmatch(r"[+-]?[\d.]+([eE][+-]?\d+)?", value) is None


@given(st.dictionaries(texts, values, max_size=5).filter(same_in_both_versions))
def test_what_pyyaml_writes_is_read_as_it_was(file, value):
    assert load(file, yaml.safe_dump(value, allow_unicode=True)).data == value


@given(
    st.text(
        st.sampled_from("ab:- \n\t[]{}?,#&*!|>'\"%@`1.e~\\x0\x00\x85\ud800é\u2028"), max_size=60
    )
)
def test_text_of_any_kind_is_read_or_refused_with_its_place(file, text):
    read = outcome(file, text.encode("utf-8", "surrogatepass"))
    if isinstance(read, RunnerError):
        assert PLACE.match(read.message.removeprefix(f"{file.parent}/")), read.message
    else:
        assert json.loads(json.dumps(read.data)) == read.data
        lines = sum(text.count(end) for end in "\n\x85\u2028") + 1
        assert all(1 <= line <= lines for line, _ in read.positions.values())


@given(st.binary(max_size=60))
def test_bytes_of_any_kind_are_read_or_refused(file, content):
    read = outcome(file, content)
    assert read.hint if isinstance(read, RunnerError) else read.positions
