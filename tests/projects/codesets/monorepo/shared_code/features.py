def columns() -> list[str]:
    return ["bmi", "s5"]
