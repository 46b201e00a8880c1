"""The stand-in's count of what DynamoDB bills, against the examples and rules of its documentation."""

from __future__ import annotations

from table_units import Units, size_of

from runner.aws.attributes import wire_item

BY_STATE = ("state_key", "state_at")


def test_the_size_of_an_item_is_that_of_names_and_values() -> None:
    assert size_of(wire_item({"pk": "a", "é": "é"})) == 2 + 1 + 2 + 2
    assert size_of(wire_item({"n": 12345, "b": True, "z": None})) == 1 + 4 + 1 + 1 + 1 + 1
    assert size_of(wire_item({"l": ["a", "bc"], "m": {"k": "v"}})) == 1 + 3 + (1 + 1) + (2 + 1) + 1 + 3 + (1 + 1 + 1)
    assert size_of(None) == 0


def test_a_write_is_billed_by_the_larger_item_and_twice_in_a_transaction() -> None:
    units = Units()
    small, large = wire_item({"pk": "a", "t": "x"}), wire_item({"pk": "a", "t": "x" * 1500})
    units.wrote(large, small, [], twice=False)
    assert units.report() == {"write": 2, "read": 0.0}
    units.wrote(None, small, [], twice=True)
    units.refused(large)
    units.wrote(small, None, [], twice=False)
    assert units.report() == {"write": 7, "read": 0.0}


def test_an_index_entry_costs_what_becomes_of_it() -> None:
    def entry(state: str, text: str = "x") -> object:
        return wire_item({"pk": "a", "state_key": state, "state_at": "1", "t": text})

    for old, new, expected in (
        (None, entry("OPEN"), 1),
        (entry("OPEN"), entry("OPEN"), 0),
        (entry("OPEN"), entry("OPEN", "y"), 1),
        (entry("OPEN"), entry("GOOD"), 2),
        (entry("OPEN", "x" * 1500), entry("GOOD"), 3),
        (entry("OPEN"), wire_item({"pk": "a"}), 1),
        (wire_item({"pk": "a"}), wire_item({"pk": "a", "t": "x"}), 0),
    ):
        units = Units()
        units.wrote(old, new, [BY_STATE], twice=True)  # type: ignore[arg-type]
        assert units.count["index"] == expected, (old, new)


def test_a_query_is_billed_in_one_sum_and_single_items_each() -> None:
    items = [wire_item({"pk": "a", "t": "x" * 1000}) for _ in range(8)]
    for consistent, together, expected in ((True, True, 2.0), (False, True, 1.0), (True, False, 8.0)):
        units = Units()
        units.read(items, consistent=consistent, together=together)
        assert units.report()["read"] == expected
    units = Units()
    units.read([], consistent=False, together=True)
    assert units.report()["read"] == 0.5
