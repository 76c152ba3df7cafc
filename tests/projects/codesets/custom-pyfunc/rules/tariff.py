def price(weight: float, express: bool) -> float:
    return 2.5 + 1.25 * weight * (2 if express else 1)
