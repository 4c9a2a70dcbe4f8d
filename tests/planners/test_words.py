"""Numbers as people read them."""

from autounet.planners.words import at_least, count, large, mm, percent, times


def test_numbers_read_naturally() -> None:
    assert times((40, 56.0, 35.5)) == "40×56×35.5"
    assert mm((5.0, 1.5625, 0.781251)) == "5×1.5625×0.78125 mm"
    assert [percent(part) for part in (0.05, 1.0, 0.234, 0.004, 0.9999)] == ["5 %", "100 %", "23 %", "0.4 %", "100 %"]
    assert [count(1, "image"), count(2, "image")] == ["1 image", "2 images"]
    assert [large(number) for number in (768, 21_800, 5.6e6, 19.1e9, 137.8e12)] == [
        "768",
        "21,800",
        "5.6 million",
        "19.1 billion",
        "138 trillion",
    ]
    assert large(1.35e15) == "1,350 trillion"


def test_at_least_rounds_up() -> None:
    assert [at_least(value) for value in (7.6812, 0.000123456, 24.0, 1999.0)] == ["7.69", "0.000124", "24", "2000"]
