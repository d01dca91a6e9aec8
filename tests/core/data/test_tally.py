from core.data.tally import Tally


def test_equal_remarks_are_one_line_with_the_first_as_an_example():
    tally = Tally("records")
    tally.add("a", "lasts 0.5 s")
    tally.add("b", "is empty")
    tally.add("c", "lasts 0.25 s")
    assert tally.notes("left out: ") == [
        "2 records: left out: lasts 0.5 s, such as a",
        "b: left out: is empty",
    ]
