"""The top of the file graph as SVG and as DOT: boxes in columns, users left of what they use. No program draws it."""

from __future__ import annotations

import html
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence

from codeforge_ls.model.index import GraphPicture, PictureEdge, PictureNode

BOX, HEIGHT, GAP, COLUMN, MARGIN, HEAD = 208, 62, 22, 330, 28, 46  # user units
TALL = 7  # boxes in one column; more of one layer go into the next
EDGES_A_BOX = 2.0  # only the strongest edges are drawn, this many a box, and the strongest of each box
LABELS = 14  # edges with their weight beside them
SWEEPS = 6
NO_XML = re.compile(r"[\x00-\x1f\ud800-\udfff\ufffe\uffff]")
LETTERS, SMALL_LETTERS = 27, 34  # that fit into a box
HUES = (
    211,
    152,
    28,
    265,
    340,
    184,
    95,
    48,
    300,
    12,
)  # one for each folder, in the order of their files' ranks


def svg(picture: GraphPicture) -> str:
    """A complete SVG document; the same picture always gives the same text."""
    nodes = {node.path: node for node in picture.nodes}
    edges = strongest(picture)
    columns = _columns(list(nodes), edges)
    place = {
        path: (MARGIN + at * COLUMN, _top(columns, column, row))
        for at, column in enumerate(columns)
        for row, path in enumerate(column)
    }
    width = 2 * MARGIN + (len(columns) - 1) * COLUMN + BOX if columns else 2 * MARGIN + BOX
    height = HEAD + MARGIN + max((len(column) for column in columns), default=1) * (HEIGHT + GAP)
    most = max((edge.weight for edge in edges), default=1.0)
    best = max((node.rank for node in picture.nodes), default=1.0) or 1.0
    hues = _hues(picture.nodes)
    left_out = f", {picture.cut_files} more files" if picture.cut_files else ""
    title = f"{len(nodes)} files, {len(edges)} of {len(picture.edges)} edges{left_out}"
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
        ' font-family="system-ui, Segoe UI, Helvetica, Arial, DejaVu Sans, sans-serif" role="img">',
        f"<title>Repository map: {_text(title)}</title>",
        '<defs><marker id="arrow" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7"'
        ' markerUnits="userSpaceOnUse" orient="auto"><path d="M0 0.8 L7.4 4 L0 7.2 z" fill="#64748b"/></marker></defs>',
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
        f'<text x="{MARGIN}" y="26" font-size="13" fill="#334155">A file uses the files its arrows point to. '
        f"{_text(title)}.</text>",
    ]
    labels = {(edge.source, edge.target) for edge in edges[:LABELS]}
    drawn = [_edge(edge, place, most, labelled=(edge.source, edge.target) in labels) for edge in edges]
    parts += [line for line, _ in reversed(drawn)]
    parts += [
        _box(node, place[node.path], hues[_folder(node.path)], node.rank / best) for node in picture.nodes
    ]
    parts += [label for _, label in drawn if label]
    return "\n".join([*parts, "</svg>"]) + "\n"


def dot(picture: GraphPicture) -> str:
    """The same as a graph for Graphviz and what reads its language; all edges."""
    lines = [
        "digraph repository {",
        "  rankdir=LR;",
        '  node [shape=box, style=rounded, fontname="Helvetica"];',
    ]
    for node in picture.nodes:
        names = f"\\n{', '.join(map(_quoted, node.symbols))}" if node.symbols else ""
        lines.append(
            f'  "{_quoted(node.path)}" [label="{_quoted(node.path)}{names}", rank_value={node.rank:.6g}];'
        )
    lines += [
        f'  "{_quoted(edge.source)}" -> "{_quoted(edge.target)}" [label="{edge.weight:.3g}", weight='
        f"{max(1, round(edge.weight))}];"
        for edge in picture.edges
    ]
    return "\n".join([*lines, "}"]) + "\n"


def strongest(picture: GraphPicture) -> list[PictureEdge]:
    """The edges that are drawn, heaviest first: the strongest of all, and the strongest of each box."""
    kept = set(range(round(EDGES_A_BOX * len(picture.nodes))))
    seen: set[str] = set()
    for at, edge in enumerate(picture.edges):
        if edge.source not in seen or edge.target not in seen:
            kept.add(at)
            seen |= {edge.source, edge.target}
    return [edge for at, edge in enumerate(picture.edges) if at in kept]


def _columns(paths: Sequence[str], edges: Sequence[PictureEdge]) -> list[list[str]]:
    """Layers of a graph without its weakest cycles: what is used most stands rightmost."""
    targets: dict[str, list[str]] = defaultdict(list)
    for edge in edges:  # heaviest first, so that a cycle loses its weakest edge
        if not _leads(targets, edge.target, edge.source):
            targets[edge.source].append(edge.target)
    depth: dict[str, int] = {}

    def measure(path: str) -> int:
        if path not in depth:
            depth[path] = 1 + max((measure(one) for one in targets[path]), default=-1)
        return depth[path]

    layers: dict[int, list[str]] = defaultdict(list)
    for path in paths:
        layers[measure(path)].append(path)
    columns = [
        layer[start : start + TALL]
        for at in sorted(layers, reverse=True)
        for layer in [layers[at]]
        for start in range(0, len(layer), TALL)
    ]
    _untangle(columns, edges)
    return columns


def _leads(targets: Mapping[str, list[str]], start: str, goal: str) -> bool:
    """Whether a way of kept edges leads from ``start`` to ``goal``."""
    todo, seen = [start], {start}
    while todo:
        path = todo.pop()
        if path == goal:
            return True
        fresh = [one for one in targets.get(path, ()) if one not in seen]
        seen.update(fresh)
        todo += fresh
    return False


def _untangle(columns: list[list[str]], edges: Sequence[PictureEdge]) -> None:
    """Order each column by where its neighbours stand, a few times over: fewer edges cross."""
    near: dict[str, list[tuple[str, float]]] = defaultdict(list)
    for edge in edges:
        near[edge.source].append((edge.target, edge.weight))
        near[edge.target].append((edge.source, edge.weight))
    for sweep in range(SWEEPS):
        middle = {path: row - (len(column) - 1) / 2 for column in columns for row, path in enumerate(column)}
        for column in columns if sweep % 2 else reversed(columns):
            wanted = {}
            for path in column:
                total = sum(weight for _, weight in near[path])
                pull = sum(middle[one] * weight for one, weight in near[path])
                wanted[path] = pull / total if total else middle[path]
            column.sort(key=lambda path: (wanted[path], path))
            middle |= {path: row - (len(column) - 1) / 2 for row, path in enumerate(column)}


def _top(columns: Sequence[Sequence[str]], column: Sequence[str], row: int) -> float:
    tallest = max(len(one) for one in columns)
    return HEAD + (tallest - len(column)) * (HEIGHT + GAP) / 2 + row * (HEIGHT + GAP)


def _hues(nodes: Sequence[PictureNode]) -> dict[str, int]:
    folders = dict.fromkeys(_folder(node.path) for node in nodes)
    return {folder: HUES[at % len(HUES)] for at, folder in enumerate(folders)}


def _folder(path: str) -> str:
    return path.rpartition("/")[0]


def _box(node: PictureNode, place: tuple[float, float], hue: int, share: float) -> str:
    x, y = place
    folder, _, name = node.path.rpartition("/")
    names = ", ".join(node.symbols)
    bar = max(4.0, share**0.5 * (HEIGHT - 12))
    return (
        f'<g transform="translate({x:g} {y:g})"><title>{_text(node.path)}&#10;{_text(names)}</title>'
        f'<rect width="{BOX}" height="{HEIGHT}" rx="7" fill="hsl({hue} 60% 96%)" stroke="hsl({hue} 45% 55%)"/>'
        f'<rect x="5" y="{HEIGHT - 6 - bar:.1f}" width="4" height="{bar:.1f}" rx="2" fill="hsl({hue} 55% 45%)"/>'
        f'<text x="16" y="20" font-size="13" font-weight="600" fill="#0f172a">{_text(_fit(name, LETTERS))}</text>'
        f'<text x="16" y="35" font-size="10" fill="#64748b">{_text(_fit_left(folder, SMALL_LETTERS))}</text>'
        f'<text x="16" y="51" font-size="10" fill="#334155">{_text(_fit(names, SMALL_LETTERS))}</text></g>'
    )


def _edge(
    edge: PictureEdge, place: Mapping[str, tuple[float, float]], most: float, *, labelled: bool
) -> tuple[str, str]:
    """The line of an edge and, to be drawn above all boxes, its label."""
    (x1, y1), (x2, y2) = place[edge.source], place[edge.target]
    y1, y2 = y1 + HEIGHT / 2, y2 + HEIGHT / 2
    if x1 < x2:
        bend = max(40.0, (x2 - x1 - BOX) * 0.45)
        x1 += BOX
        bends = x1 + bend, x2 - bend
    elif x1 == x2:  # within a column: around its left side
        bends = x1 - 70, x2 - 70
    else:  # back: from the left side to the right one
        x2 += BOX
        bends = x1 - 55, x2 + 55
    share = (edge.weight / most) ** 0.5
    line = (
        f'<path d="M{x1:g} {y1:g} C{bends[0]:g} {y1:g} {bends[1]:g} {y2:g} {x2:g} {y2:g}" fill="none" stroke="#64748b"'
        f' stroke-width="{0.8 + 3.4 * share:.2f}" stroke-opacity="{0.25 + 0.5 * share:.2f}" marker-end="url(#arrow)">'
        f"<title>{_text(edge.source)} uses {_text(edge.target)}: {edge.weight:.3g}</title></path>"
    )
    if not labelled:
        return line, ""
    # The point of the curve at three tenths of its way: in the middle most edges cross.
    t = 0.3
    weights = (1 - t) ** 3, 3 * (1 - t) ** 2 * t, 3 * (1 - t) * t * t, t**3
    x = sum(weight * value for weight, value in zip(weights, (x1, *bends, x2), strict=True))
    y = sum(weight * value for weight, value in zip(weights, (y1, y1, y2, y2), strict=True))
    label = (
        f'<text x="{x:.1f}" y="{y - 3:.1f}" font-size="9.5" text-anchor="middle" fill="#334155" stroke="#ffffff"'
        f' stroke-width="3" paint-order="stroke">{edge.weight:.3g}</text>'
    )
    return line, label


def _fit(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"


def _fit_left(text: str, most: int) -> str:
    return text if len(text) <= most else f"…{text[1 - most :]}"


def _text(text: str) -> str:
    """Fit for XML: escaped, and what XML does not know as a character replaced."""
    return html.escape("".join("\ufffd" if NO_XML.match(one) else one for one in text))


def _quoted(text: str) -> str:
    return "".join(max(one, " ") for one in text).replace("\\", "\\\\").replace('"', '\\"')
