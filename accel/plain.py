"""Text from other people's files, as it may stand on a terminal."""


def shown(text: object, keep: str = "\n\t") -> str:
    r"""What would steer a terminal is spelled out: "\x1b[31mred" has nothing red about it."""
    return "".join(
        c if c.isprintable() or c in keep else c.encode("unicode_escape").decode()
        for c in str(text)
    )
