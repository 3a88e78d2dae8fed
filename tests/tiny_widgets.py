"""The parts of a widget."""


def widgets_of(root, kind):
    inside = [
        widget for child in getattr(root, "children", ()) for widget in widgets_of(child, kind)
    ]
    return inside + [root] * isinstance(root, kind)
