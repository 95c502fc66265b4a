//! Layered layout: longest-path layers, crossings reduced by barycentres, coordinates by least
//! squares.
//!
//! Everything is near-linear in items and edges: an edge takes part in the order of the layers that
//! it passes only if they are few, and one that passes more is a [`Route::Far`].

use super::columns::{Columns, Extent};

/// Layers that an edge may pass and still be drawn as a line.
const MAX_SPAN: usize = 12;

/// Sweeps, each down and up again, over the order of the layers and over the coordinates.
const SWEEPS: usize = 6;

/// Space between neighbours in a layer and between layers.
const GAP: (f64, f64) = (18.0, 34.0);

/// A box to be placed: its width and height.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Item {
    /// Width.
    pub(crate) width: f64,
    /// Height.
    pub(crate) height: f64,
}

/// How an edge is drawn.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Route {
    /// Through these points between its ends.
    Line(Vec<(f64, f64)>),
    /// Not as a line: it is too long, or runs backwards.
    Far,
}

/// Where everything is.
#[derive(Clone, Debug)]
pub(crate) struct Placed {
    /// The middle of each item's upper edge.
    pub(crate) at: Vec<(f64, f64)>,
    /// How each edge is drawn.
    pub(crate) routes: Vec<Route>,
    /// The whole.
    pub(crate) size: (f64, f64),
}

/// Places items so that edges run downwards, in columns if that may be and the whole would be a thread.
pub(crate) fn place(items: &[Item], edges: &[(usize, usize)], folded: bool) -> Placed {
    let layer = layers(items.len(), edges);
    let mut net = Net::new(items, edges, &layer);
    net.order();
    net.coordinates();
    net.placed(items, edges, folded)
}

/// The layer of each item: below everything it reads, what reads nothing right above its first
/// reader.
fn layers(count: usize, edges: &[(usize, usize)]) -> Vec<usize> {
    let mut readers = vec![Vec::new(); count];
    let mut reads = vec![false; count];
    for &(from, to) in edges.iter().filter(|(from, to)| from < to) {
        readers[from].push(to);
        reads[to] = true;
    }
    let mut layer = vec![0; count];
    for from in 0..count {
        for &to in &readers[from] {
            layer[to] = layer[to].max(layer[from] + 1);
        }
    }
    for from in 0..count {
        if let (false, Some(first)) = (reads[from], readers[from].iter().map(|&to| layer[to]).min()) {
            layer[from] = first - 1;
        }
    }
    layer
}

/// A place in a layer: an item, or where an edge passes.
struct Spot {
    width: f64,
    layer: usize,
    /// Spots in the layer above and below that it is connected with.
    above: Vec<usize>,
    below: Vec<usize>,
    x: f64,
}

/// Which neighbours a spot goes by.
#[derive(Clone, Copy)]
enum Near {
    Nothing,
    Above,
    Below,
    Both,
}

/// Neighbours that have come to stand side by side.
struct Pool {
    sum: f64,
    count: usize,
}

impl Pool {
    fn mean(&self) -> f64 {
        self.sum / self.count as f64
    }
}

/// Items and passing edges, layer by layer. The first spots are the items.
struct Net {
    spots: Vec<Spot>,
    layers: Vec<Vec<usize>>,
    /// For each edge, the spots between its ends; `None` if it is far.
    chains: Vec<Option<Vec<usize>>>,
}

impl Net {
    fn new(items: &[Item], edges: &[(usize, usize)], layer: &[usize]) -> Net {
        let spot = |width, layer| Spot { width, layer, above: vec![], below: vec![], x: 0.0 };
        let mut spots: Vec<Spot> =
            items.iter().zip(layer).map(|(item, &layer)| spot(item.width, layer)).collect();
        let mut chains = Vec::with_capacity(edges.len());
        for &(from, to) in edges {
            if from >= to || layer[to] - layer[from] > MAX_SPAN {
                chains.push(None);
                continue;
            }
            let mut last = from;
            let mut chain = Vec::new();
            for passed in layer[from] + 1..layer[to] {
                spots.push(spot(2.0, passed));
                let new = spots.len() - 1;
                join(&mut spots, last, new);
                chain.push(new);
                last = new;
            }
            join(&mut spots, last, to);
            chains.push(Some(chain));
        }
        let count = spots.iter().map(|s| s.layer + 1).max().unwrap_or(0);
        let mut layers = vec![Vec::new(); count];
        spots.iter().enumerate().for_each(|(i, s)| layers[s.layer].push(i));
        Net { spots, layers, chains }
    }

    /// Orders each layer by the mean place of its neighbours above, then below, and so on; keeps the
    /// order with the fewest crossings.
    fn order(&mut self) {
        let mut place = vec![0.0; self.spots.len()];
        let mut best = (self.crossings(), self.layers.clone());
        for sweep in 0..2 * SWEEPS {
            let down = sweep % 2 == 0;
            let all = 0..self.layers.len();
            let order: Vec<usize> = if down { all.collect() } else { all.rev().collect() };
            for layer in order {
                let spots = &self.spots;
                let mean = |&i: &usize| {
                    let near = if down { &spots[i].above } else { &spots[i].below };
                    let sum: f64 = near.iter().map(|&n| place[n]).sum();
                    if near.is_empty() { place[i] } else { sum / near.len() as f64 }
                };
                let mut keyed: Vec<(f64, usize)> = self.layers[layer].iter().map(|i| (mean(i), *i)).collect();
                keyed.sort_by(|a, b| a.0.total_cmp(&b.0));
                self.layers[layer] = keyed.into_iter().map(|(_, i)| i).collect();
                let middle = self.layers[layer].len() as f64 / 2.0;
                self.layers[layer].iter().enumerate().for_each(|(n, &i)| place[i] = n as f64 - middle);
            }
            let crossings = self.crossings();
            if crossings < best.0 {
                best = (crossings, self.layers.clone());
            }
            if best.0 == 0 {
                break;
            }
        }
        self.layers = best.1;
    }

    /// How many pairs of edges between neighbouring layers cross.
    fn crossings(&self) -> u64 {
        let mut place = vec![0; self.spots.len()];
        for layer in &self.layers {
            layer.iter().enumerate().for_each(|(n, &i)| place[i] = n);
        }
        let mut count = 0;
        for pair in self.layers.windows(2) {
            let mut seen = Counts::new(pair[1].len());
            for &upper in &pair[0] {
                let mut ends: Vec<usize> = self.spots[upper].below.iter().map(|&n| place[n]).collect();
                count += ends.iter().map(|&end| seen.above(end)).sum::<u64>();
                ends.drain(..).for_each(|end| seen.add(end));
            }
        }
        count
    }

    /// Moves each layer's spots towards the means of their neighbours, without changing their order.
    fn coordinates(&mut self) {
        for layer in 0..self.layers.len() {
            self.settle(layer, Near::Nothing);
        }
        for sweep in 0..2 * SWEEPS {
            let down = sweep % 2 == 0;
            let all = 0..self.layers.len();
            let order: Vec<usize> = if down { all.collect() } else { all.rev().collect() };
            let near = match (sweep + 2 >= 2 * SWEEPS, down) {
                (true, _) => Near::Both,
                (false, true) => Near::Above,
                (false, false) => Near::Below,
            };
            order.into_iter().for_each(|layer| self.settle(layer, near));
        }
    }

    /// Where a spot would like to be.
    fn wanted(&self, spot: &Spot, near: Near) -> Option<f64> {
        let (above, below): (&[usize], &[usize]) = match near {
            Near::Nothing => return None,
            Near::Above => (&spot.above, &[]),
            Near::Below => (&[], &spot.below),
            Near::Both => (&spot.above, &spot.below),
        };
        let (mut sum, mut count) = (0.0, 0.0);
        for &n in above.iter().chain(below) {
            sum += self.spots[n].x;
            count += 1.0;
        }
        Some(if count == 0.0 { spot.x } else { sum / count })
    }

    /// The places nearest to what the spots of a layer want, in their order and at their distances:
    /// a monotone regression, by pooling neighbours that want to pass each other.
    fn settle(&mut self, layer: usize, near: Near) {
        let mut pools: Vec<Pool> = Vec::new();
        let mut offsets = Vec::with_capacity(self.layers[layer].len());
        let (mut offset, mut before) = (0.0, 0.0);
        for &i in &self.layers[layer] {
            let spot = &self.spots[i];
            offset += before + spot.width / 2.0;
            offsets.push(offset);
            before = spot.width / 2.0 + GAP.0;
            let shift = self.wanted(spot, near).unwrap_or(offset) - offset;
            pools.push(Pool { sum: shift, count: 1 });
            while let [.., a, b] = &pools[..]
                && a.mean() > b.mean()
            {
                let merged = Pool { sum: a.sum + b.sum, count: a.count + b.count };
                pools.truncate(pools.len() - 2);
                pools.push(merged);
            }
        }
        let shifts = pools.iter().flat_map(|p| std::iter::repeat_n(p.mean(), p.count));
        for ((shift, offset), &i) in shifts.zip(offsets).zip(&self.layers[layer]) {
            self.spots[i].x = shift + offset;
        }
    }

    fn placed(&self, items: &[Item], edges: &[(usize, usize)], folded: bool) -> Placed {
        let extents: Vec<Extent> = self.layers.iter().map(|layer| self.extent(layer, items)).collect();
        let columns = Columns::new(&extents, GAP.1, folded);
        let place = |i: usize, item: &Item| {
            let spot = &self.spots[i];
            let shift = columns.layers[spot.layer];
            (spot.x + shift.x, shift.y + (extents[spot.layer].height - item.height) / 2.0)
        };
        let mut lane = 0;
        let mut route = |(from, to): (usize, usize), chain: &Vec<usize>| {
            let mut points = Vec::new();
            let mut last = from;
            for &next in chain.iter().chain([&to]) {
                let ends = [last, next].map(|i| (self.spots[i].layer, self.spots[i].x));
                let turn = columns.turn(ends[0], ends[1], lane);
                lane += usize::from(!turn.is_empty());
                points.extend(turn);
                if next != to {
                    let shift = columns.layers[ends[1].0];
                    let (x, height) = (ends[1].1 + shift.x, extents[ends[1].0].height);
                    points.extend([(x, shift.y), (x, shift.y + height)]);
                }
                last = next;
            }
            points
        };
        let routes = edges.iter().zip(&self.chains).map(|(&edge, chain)| match chain {
            Some(chain) => Route::Line(route(edge, chain)),
            None => Route::Far,
        });
        Placed {
            routes: routes.collect(),
            at: items.iter().enumerate().map(|(i, item)| place(i, item)).collect(),
            size: columns.size,
        }
    }

    fn extent(&self, layer: &[usize], items: &[Item]) -> Extent {
        let ends = |sign: f64| layer.iter().map(move |&i| self.spots[i].x + sign * self.spots[i].width / 2.0);
        Extent {
            left: ends(-1.0).fold(f64::INFINITY, f64::min),
            right: ends(1.0).fold(f64::NEG_INFINITY, f64::max),
            height: layer.iter().filter_map(|&i| items.get(i)).map(|item| item.height).fold(0.0, f64::max),
            lines: layer.iter().map(|&i| self.spots[i].below.len()).sum(),
        }
    }
}

fn join(spots: &mut [Spot], upper: usize, lower: usize) {
    spots[upper].below.push(lower);
    spots[lower].above.push(upper);
}

/// Counts of numbers below a bound, with sums over ranges: a Fenwick tree.
struct Counts(Vec<u64>, u64);

impl Counts {
    fn new(bound: usize) -> Counts {
        Counts(vec![0; bound + 1], 0)
    }

    fn add(&mut self, number: usize) {
        self.1 += 1;
        let mut at = number + 1;
        while at < self.0.len() {
            self.0[at] += 1;
            at += at & at.wrapping_neg();
        }
    }

    /// How many are greater.
    fn above(&self, number: usize) -> u64 {
        let (mut sum, mut at) = (0, number + 1);
        while at > 0 {
            sum += self.0[at];
            at -= at & at.wrapping_neg();
        }
        self.1 - sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn boxes(count: usize) -> Vec<Item> {
        vec![Item { width: 100.0, height: 40.0 }; count]
    }

    /// Neither two boxes overlap nor does an edge run upwards.
    fn hold(items: &[Item], edges: &[(usize, usize)]) -> Placed {
        let placed = place(items, edges, false);
        let mut order: Vec<usize> = (0..items.len()).collect();
        order.sort_by(|&a, &b| {
            placed.at[a].1.total_cmp(&placed.at[b].1).then(placed.at[a].0.total_cmp(&placed.at[b].0))
        });
        for pair in order.windows(2) {
            let [(ax, ay), (bx, by)] = [placed.at[pair[0]], placed.at[pair[1]]];
            let apart = (items[pair[0]].width + items[pair[1]].width) / 2.0;
            assert!(ay + items[pair[0]].height <= by || bx - ax >= apart - 1e-6, "{pair:?}");
        }
        for &(from, to) in edges {
            assert!(placed.at[from].1 < placed.at[to].1);
        }
        placed
    }

    #[test]
    fn a_chain_is_a_straight_line() {
        let edges: Vec<_> = (1..50).map(|i| (i - 1, i)).collect();
        let placed = hold(&boxes(50), &edges);
        assert!(placed.at.windows(2).all(|p| (p[0].0 - p[1].0).abs() < 1e-6));
        assert_eq!(placed.size.0, 100.0);
    }

    #[test]
    fn a_diamond_is_balanced() {
        let placed = hold(&boxes(4), &[(0, 1), (0, 2), (1, 3), (2, 3)]);
        assert!((placed.at[0].0 - placed.at[3].0).abs() < 1.0);
        // A value that is read on the way and again behind it stays in its column.
        let placed = hold(&boxes(5), &[(0, 1), (1, 2), (1, 3), (2, 3), (3, 4)]);
        assert!((placed.at[0].0 - placed.at[4].0).abs() < 1.0);
        let placed = hold(&boxes(4), &[(0, 1), (0, 2), (1, 3), (2, 3)]);
        assert!((placed.at[1].1 - placed.at[2].1).abs() < 1e-6);
    }

    #[test]
    fn crossings_that_need_not_be_are_not() {
        // Two chains whose second halves are listed the other way round.
        let edges = [(0, 3), (1, 2), (3, 4), (2, 5)];
        let net = |order: bool| {
            let items = boxes(6);
            let mut net = Net::new(&items, &edges, &layers(6, &edges));
            if order {
                net.order();
            }
            net.crossings()
        };
        assert!(net(false) > 0);
        assert_eq!(net(true), 0);
    }

    #[test]
    fn long_edges_are_far_and_passing_ones_bend() {
        let mut edges: Vec<_> = (1..40).map(|i| (i - 1, i)).collect();
        edges.extend([(0, 5), (0, 30)]);
        let placed = hold(&boxes(40), &edges);
        assert!(matches!(&placed.routes[39], Route::Line(points) if points.len() == 8));
        assert_eq!(placed.routes[40], Route::Far);
    }

    #[test]
    fn work_is_near_linear() {
        // Every node reads the first: as many passing edges as the square, were they not bounded.
        let edges: Vec<_> = (1..20_000).flat_map(|i| [(i - 1, i), (0, i)]).collect();
        let items = boxes(20_000);
        let net = Net::new(&items, &edges, &layers(items.len(), &edges));
        assert!(net.spots.len() < items.len() + 200);
        // A thousand ways, and nothing at all.
        let ways: Vec<_> = (1..=1000).flat_map(|i| [(0, i), (i, 1001)]).collect();
        hold(&boxes(1002), &ways);
        assert_eq!(place(&[], &[], true).size, (0.0, 0.0));
    }
}
