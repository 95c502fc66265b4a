//! Pictures as SVG: boxes of groups around their operators, lines from values to their readers.

use std::fmt::Write as _;

use maud::{Markup, PreEscaped, html};

use super::layout::{Item, Placed, Route, place};
use super::{Family, Graph, Picture};

/// Height of a node, with one line of text and with two.
const HEIGHTS: (f64, f64) = (24.0, 38.0);

/// Characters of a line of text at most.
const MAX_CHARS: usize = 30;

/// Width of a character, and what stands around a line.
const CHAR: (f64, f64) = (6.7, 18.0);

/// Around the operators of a group, and its title above them.
const FRAME: (f64, f64) = (10.0, 18.0);

/// Around the whole.
const MARGIN: f64 = 16.0;

/// A graph that is placed.
pub(crate) struct Drawing {
    /// What is drawn, behind first.
    pub(crate) markup: Markup,
    /// The whole, margins included.
    pub(crate) size: (f64, f64),
}

/// A box: the middle of its upper edge, its width and height.
#[derive(Clone, Copy)]
struct Frame {
    x: f64,
    y: f64,
    width: f64,
    height: f64,
}

impl Frame {
    fn left(self) -> f64 {
        self.x - self.width / 2.0
    }

    fn bottom(self) -> f64 {
        self.y + self.height
    }
}

/// Draws a graph.
pub(crate) fn draw(graph: &Graph) -> Drawing {
    let outer = Outer::new(graph);
    let placed = place(&outer.items, &outer.edges, true);
    let (groups, nodes) = outer.frames(graph, &placed);
    let lines = lines(graph, &outer, &placed, &groups, &nodes);
    let far = far_readers(graph, &outer, &placed);
    let markup = html! {
        @for (group, frame) in graph.groups.iter().zip(&groups) {
            g.group {
                title { (group.title) }
                rect x=(whole(frame.left())) y=(whole(frame.y)) width=(whole(frame.width))
                    height=(whole(frame.height)) rx="9" {}
            }
        }
        g.lines { @for (from, to, path) in &lines { path d=(path) data-f=(from) data-t=(to) {} } }
        @for (group, frame) in graph.groups.iter().zip(&groups) {
            text.of-group x=(whole(frame.left() + 9.0)) y=(whole(frame.y + 13.0)) {
                (cut(&group.title, ((frame.width - 18.0) / 5.6) as usize))
            }
        }
        @for (n, (node, frame)) in graph.nodes.iter().zip(&nodes).enumerate() {
            g class={ "node " (node.family.class()) } data-n=(n) data-name=(node.title)
                transform={ "translate(" (whole(frame.left())) " " (whole(frame.y)) ")" } {
                title { (node.title) "\n" (node.facts) @for from in &far[n] { "\nreads " (graph.nodes[*from].title) " from far above" } }
                rect width=(whole(frame.width)) height=(whole(frame.height)) rx="6" {}
                text x=(whole(frame.width / 2.0)) y="16" { (cut(&node.title, MAX_CHARS)) }
                @if !node.detail.is_empty() {
                    text.detail x=(whole(frame.width / 2.0)) y="31" { (cut(&node.detail, MAX_CHARS)) }
                }
                @if !far[n].is_empty() { circle.far cx="8" cy="0" r="4" {} }
            }
        }
    };
    let size = (placed.size.0 + 2.0 * MARGIN, placed.size.1 + 2.0 * MARGIN);
    Drawing { markup: html! { g transform={ "translate(" (MARGIN) " " (MARGIN) ")" } { (markup) } }, size }
}

/// Coordinates are drawn to the pixel.
fn whole(x: f64) -> i64 {
    x.round() as i64
}

/// A text of a bounded number of characters.
fn cut(text: &str, most: usize) -> String {
    let most = most.max(4);
    if text.chars().count() <= most {
        return text.to_owned();
    }
    text.chars().take(most - 1).chain(['…']).collect()
}

fn node_item(title: &str, detail: &str) -> Item {
    let chars = [title, detail].iter().map(|t| t.chars().count().min(MAX_CHARS)).max().unwrap_or(0);
    let height = if detail.is_empty() { HEIGHTS.0 } else { HEIGHTS.1 };
    Item { width: (chars as f64 * CHAR.0 + CHAR.1).max(56.0), height }
}

/// Groups and the nodes of none, as the layout sees them.
struct Outer {
    items: Vec<Item>,
    edges: Vec<(usize, usize)>,
    /// For each edge of the graph, its edge out here; `None` within a group.
    edge_of: Vec<Option<usize>>,
    /// For each node, its item.
    item_of: Vec<usize>,
    /// For each group, its item.
    group_item: Vec<usize>,
    /// Within each group: its nodes and where they are.
    inner: Vec<(Vec<usize>, Placed)>,
}

impl Outer {
    fn new(graph: &Graph) -> Outer {
        let mut members = vec![Vec::new(); graph.groups.len()];
        let mut rank = vec![0; graph.nodes.len()];
        for (n, node) in graph.nodes.iter().enumerate() {
            if let Some(group) = node.group {
                rank[n] = members[group].len();
                members[group].push(n);
            }
        }
        let mut inner_edges = vec![Vec::new(); graph.groups.len()];
        for &(from, to) in &graph.edges {
            if let (Some(a), Some(b)) = (graph.nodes[from].group, graph.nodes[to].group)
                && a == b
            {
                inner_edges[a].push((rank[from], rank[to]));
            }
        }
        let inner: Vec<(Vec<usize>, Placed)> = members
            .into_iter()
            .zip(&inner_edges)
            .map(|(members, edges)| {
                let item = |&n: &usize| node_item(&graph.nodes[n].title, &graph.nodes[n].detail);
                let items: Vec<Item> = members.iter().map(item).collect();
                let placed = place(&items, edges, false);
                (members, placed)
            })
            .collect();
        let (mut items, mut item_of) = (Vec::new(), Vec::new());
        let mut group_item = vec![None; graph.groups.len()];
        for node in &graph.nodes {
            let known = node.group.and_then(|g| group_item[g]);
            let item = known.unwrap_or(items.len());
            if known.is_none() {
                items.push(match node.group {
                    None => node_item(&node.title, &node.detail),
                    Some(g) => {
                        let (width, height) = inner[g].1.size;
                        Item { width: width + 2.0 * FRAME.0, height: height + 2.0 * FRAME.0 + FRAME.1 }
                    }
                });
            }
            if let Some(group) = node.group {
                group_item[group] = Some(item);
            }
            item_of.push(item);
        }
        let group_item = group_item.into_iter().map(|item| item.unwrap_or(0)).collect();
        let mut outer = Outer { items, edges: Vec::new(), edge_of: Vec::new(), item_of, group_item, inner };
        outer.connect(graph);
        outer
    }

    fn connect(&mut self, graph: &Graph) {
        let mut known = std::collections::BTreeMap::new();
        for &(from, to) in &graph.edges {
            let pair = (self.item_of[from], self.item_of[to]);
            self.edge_of.push((pair.0 != pair.1).then(|| {
                *known.entry(pair).or_insert_with(|| {
                    self.edges.push(pair);
                    self.edges.len() - 1
                })
            }));
        }
    }

    /// Where the groups and the nodes are.
    fn frames(&self, graph: &Graph, placed: &Placed) -> (Vec<Frame>, Vec<Frame>) {
        let frame = |item: usize| {
            let ((x, y), Item { width, height }) = (placed.at[item], self.items[item]);
            Frame { x, y, width, height }
        };
        let groups: Vec<Frame> = self.group_item.iter().map(|&item| frame(item)).collect();
        let mut nodes: Vec<Frame> = self.item_of.iter().map(|&item| frame(item)).collect();
        for (group, (members, inner)) in groups.iter().zip(&self.inner) {
            for (&n, &(x, y)) in members.iter().zip(&inner.at) {
                let item = node_item(&graph.nodes[n].title, &graph.nodes[n].detail);
                nodes[n] = Frame {
                    x: group.left() + FRAME.0 + x,
                    y: group.y + FRAME.0 + FRAME.1 + y,
                    width: item.width,
                    height: item.height,
                };
            }
        }
        (groups, nodes)
    }
}

/// The lines: from which node to which, and the path.
fn lines(
    graph: &Graph,
    outer: &Outer,
    placed: &Placed,
    groups: &[Frame],
    nodes: &[Frame],
) -> Vec<(usize, usize, String)> {
    let mut inner_at = vec![0; graph.groups.len()];
    let mut found = Vec::new();
    for (&(from, to), edge) in graph.edges.iter().zip(&outer.edge_of) {
        let (start, end) = (nodes[from], nodes[to]);
        let mut points = vec![(start.x, start.bottom())];
        match (edge, graph.nodes[from].group, graph.nodes[to].group) {
            (Some(edge), a, b) => {
                let Route::Line(passed) = &placed.routes[*edge] else { continue };
                points.extend(a.map(|g| (start.x, groups[g].bottom())));
                points.extend(passed);
                points.extend(b.map(|g| (end.x, groups[g].y)));
            }
            (None, Some(group), _) => {
                let place = inner_at[group];
                inner_at[group] += 1;
                let frame = groups[group];
                let Some(Route::Line(passed)) = outer.inner[group].1.routes.get(place) else { continue };
                let (left, top) = (frame.left() + FRAME.0, frame.y + FRAME.0 + FRAME.1);
                points.extend(passed.iter().map(|(x, y)| (left + x, top + y)));
            }
            (None, None, _) => continue,
        }
        points.push((end.x, end.y));
        found.push((from, to, path(&points)));
    }
    found
}

/// For each node, what it reads that no line leads to.
fn far_readers(graph: &Graph, outer: &Outer, placed: &Placed) -> Vec<Vec<usize>> {
    let mut far = vec![Vec::new(); graph.nodes.len()];
    for (&(from, to), edge) in graph.edges.iter().zip(&outer.edge_of) {
        if edge.is_some_and(|edge| placed.routes[edge] == Route::Far) {
            far[to].push(from);
        }
    }
    far
}

/// A path that leaves and enters every point vertically.
fn path(points: &[(f64, f64)]) -> String {
    let mut text = String::new();
    let mut last: Option<(i64, i64)> = None;
    for &(x, y) in points {
        let (x, y) = (whole(x), whole(y));
        let _ = match last {
            None => write!(text, "M{x} {y}"),
            Some(at) if at == (x, y) => continue,
            Some((before, _)) if before == x => write!(text, "V{y}"),
            Some((before, above)) => {
                let middle = (above + y) / 2;
                write!(text, "C{before} {middle} {x} {middle} {x} {y}")
            }
        };
        last = Some((x, y));
    }
    text
}

/// How nodes, groups and lines look; `root` selects what they are in.
pub(crate) fn style(root: &str, dark: bool) -> String {
    let (ink, faint, line, frame) = match dark {
        false => ("#1c2430", "#566070", "#8a94a3", "#eef1f6"),
        true => ("#e8ecf2", "#a5afbd", "#6d7887", "#1d232c"),
    };
    let edge = if dark { "#ffffff26" } else { "#00000026" };
    let ground = if dark { "#12161c" } else { "#fbfcfe" };
    let mut text = format!(
        "{root} .ground{{fill:{ground}}}{root} text{{font:12px system-ui,sans-serif;fill:{ink};text-anchor:middle}}\
         {root} .detail{{font-size:11px;fill:{faint}}}\
         {root} .node rect{{stroke:{edge}}}\
         {root} .lines path{{fill:none;stroke:{line};stroke-width:1.2}}\
         {root} .far{{fill:{line}}}\
         {root} .group rect{{fill:{frame};stroke:{line};stroke-dasharray:4 3}}\
         {root} .of-group{{text-anchor:start;font-size:10.5px;fill:{faint};paint-order:stroke;stroke:{frame};stroke-width:4px}}"
    );
    for family in Family::ALL {
        let color = if dark { family.dark() } else { family.light() };
        let _ = write!(text, "{root} .{} rect{{fill:{color}}}", family.class());
    }
    text
}

/// A picture as a file: its functions below each other.
pub(crate) fn file(picture: &Picture) -> String {
    let drawings: Vec<(&str, Drawing)> = picture.functions.iter().map(|g| (&*g.name, draw(g))).collect();
    let width = drawings.iter().map(|(_, d)| d.size.0).fold(120.0, f64::max);
    let mut y = 0.0;
    let mut placed = Vec::new();
    for (name, drawing) in &drawings {
        placed.push((name, drawing, y));
        y += drawing.size.1 + 24.0;
    }
    let dark = format!("@media (prefers-color-scheme:dark){{{}}}", style("", true));
    html! {
        svg xmlns="http://www.w3.org/2000/svg" viewBox={ "0 0 " (whole(width)) " " (whole(y)) }
            width=(whole(width)) height=(whole(y)) {
            style { (PreEscaped(style("", false))) (PreEscaped(dark)) }
            rect.ground width="100%" height="100%" {}
            @for (name, drawing, y) in &placed {
                g transform={ "translate(0 " (whole(*y)) ")" } {
                    text x=(MARGIN) y="16" style="text-anchor:start;font-weight:600" { "@" (name) }
                    g transform="translate(0 20)" { (drawing.markup) }
                }
            }
        }
    }
    .into_string()
        + "\n"
}
