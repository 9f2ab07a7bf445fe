"""Lines of floors: in every panel, with labels that lie neither on the curves nor on each other."""

import itertools

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Annotation

from experiments.plots import floor_lines


def test_labels_of_floors_stand_beside_the_last_panel_and_apart():
    figure = Figure(layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, 2, sharey=True)
    panels[0].set_ylim(0, 4)
    floor_lines(panels, {"near": 1.5, "nearer": 1.49, "far": 3.0})
    figure.canvas.draw()
    assert [[line.get_ydata()[0] for line in panel.lines] for panel in panels] == [[1.5, 1.49, 3.0]] * 2
    labels = [text for text in panels[1].get_children() if isinstance(text, Annotation)]
    assert [label.get_text() for label in labels] == ["near  1.500", "nearer  1.490", "far  3.000"]
    boxes = [label.get_window_extent() for label in labels]
    assert all(panels[1].bbox.x1 < box.x0 and box.x1 <= figure.bbox.x1 for box in boxes)
    assert boxes[1].y0 < boxes[0].y0 < boxes[2].y0
    assert not any(one.overlaps(other) for one, other in itertools.pairwise(boxes))
