//! The streams that wait for something, by their ids. Proxies count streams up, so that a stream's place follows from its
//! id, and finding it takes one look.

use super::response::Pending;

/// How many places there are at first, and at most; powers of two. What finds its place taken waits in a list.
pub const PLACES_MIN: usize = 64;
/// See [`PLACES_MIN`].
pub const PLACES_MAX: usize = 1 << 16;

/// What is known of a stream.
#[derive(Debug, Default)]
pub struct Stream {
    /// Its id; 0 stands for none.
    id: u32,
    /// The id of its root context, where it is not the only one; else 0.
    pub root: u32,
    /// What is left to do with its response.
    pub pending: Pending,
}

/// Streams between their start and the headers of their response.
#[derive(Debug, Default)]
pub struct Streams {
    /// Each at the place that its id gives.
    places: Vec<Stream>,
    /// Those whose places were taken.
    others: Vec<Stream>,
}

impl Streams {
    /// Empty ones. Nothing is allocated before the first stream.
    pub const fn new() -> Streams {
        Streams { places: Vec::new(), others: Vec::new() }
    }

    /// The stream `id`, if something is known of it.
    #[inline(always)]
    pub fn get(&self, id: u32) -> Option<&Stream> {
        match self.places.get(self.place(id)) {
            Some(stream) if stream.id == id => Some(stream),
            _ if self.others.is_empty() => None,
            _ => self.others.iter().find(|stream| stream.id == id),
        }
    }

    /// Notes what is known of the stream `id`, instead of what was.
    #[inline(always)]
    pub fn set(&mut self, id: u32, root: u32, pending: Pending) {
        let place = self.place(id);
        match self.places.get_mut(place) {
            Some(free) if free.id == 0 && self.others.is_empty() => {
                // There is nothing in a free place that would have to be dropped.
                std::mem::forget(std::mem::replace(free, Stream { id, root, pending }));
            }
            Some(stream) if stream.id == id => *stream = Stream { id, root, pending },
            _ => self.set_elsewhere(Stream { id, root, pending }),
        }
    }

    #[cold]
    fn set_elsewhere(&mut self, stream: Stream) {
        self.take(stream.id);
        // A place for each, and few of them taken: lists are searched from end to end.
        if self.places.is_empty() || (self.others.len() >= self.places.len() / 8 && self.places.len() < PLACES_MAX) {
            let places = (self.places.len() * 2).max(PLACES_MIN);
            let known = std::mem::take(&mut self.places).into_iter().chain(std::mem::take(&mut self.others));
            let known: Vec<Stream> = known.filter(|stream| stream.id != 0).collect();
            self.places.resize_with(places, Stream::default);
            for stream in known {
                self.put(stream);
            }
        }
        self.put(stream);
    }

    fn put(&mut self, stream: Stream) {
        let place = self.place(stream.id);
        match self.places.get_mut(place) {
            Some(free) if free.id == 0 => *free = stream,
            _ => self.others.push(stream),
        }
    }

    /// Forgets the stream `id`, and gives what was known of it.
    #[inline(always)]
    pub fn take(&mut self, id: u32) -> Option<Stream> {
        let place = self.place(id);
        match self.places.get_mut(place) {
            Some(stream) if stream.id == id => Some(std::mem::take(stream)),
            _ if self.others.is_empty() => None,
            _ => self.take_elsewhere(id),
        }
    }

    /// Forgets the stream `id`. As a rule that was done when its response came.
    #[inline(always)]
    pub fn forget(&mut self, id: u32) {
        if self.get(id).is_some() {
            self.take(id);
        }
    }

    #[cold]
    fn take_elsewhere(&mut self, id: u32) -> Option<Stream> {
        let at = self.others.iter().position(|stream| stream.id == id)?;
        Some(self.others.swap_remove(at))
    }

    /// The length is a power of two; without places, what comes out is none.
    #[inline(always)]
    fn place(&self, id: u32) -> usize {
        id as usize & self.places.len().wrapping_sub(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::response::Caching;

    #[allow(clippy::field_reassign_with_default, reason = "its other fields are its own")]
    fn private() -> Pending {
        let mut pending = Pending::default();
        pending.caching = Caching::Private;
        pending
    }

    fn root(streams: &Streams, id: u32) -> Option<u32> {
        streams.get(id).map(|stream| stream.root)
    }

    #[test]
    fn every_stream_finds_its_own() {
        let mut streams = Streams::new();
        assert!(streams.get(0).is_none() && streams.get(7).is_none() && streams.take(7).is_none());
        // Every third stream stays for long, so that places are taken when their turn comes again.
        let mut long: Vec<u32> = Vec::new();
        for id in 2..5_000_u32 {
            streams.set(id, id * 2, Pending::default());
            streams.set(id, id * 3, private());
            assert_eq!(root(&streams, id), Some(id * 3));
            if id % 3 == 0 {
                long.push(id);
            } else {
                let taken = streams.take(id).unwrap();
                assert_eq!((taken.root, taken.pending.caching), (id * 3, Caching::Private));
            }
            assert!(root(&streams, id + 1).is_none());
        }
        assert!(long.iter().all(|id| root(&streams, *id) == Some(id * 3)));
        assert!(streams.others.len() <= streams.places.len() / 8);
        for id in long {
            assert!(streams.take(id).is_some() && streams.take(id).is_none() && streams.get(id).is_none());
        }
        assert!(streams.others.is_empty() && streams.places.iter().all(|stream| stream.id == 0));
    }

    #[test]
    fn places_are_bounded_and_no_stream_is_lost() {
        let mut streams = Streams::new();
        let ids = || 1..=PLACES_MAX as u32 + 100;
        ids().for_each(|id| streams.set(id, id, Pending::default()));
        assert_eq!(streams.places.len(), PLACES_MAX);
        assert!(ids().step_by(997).all(|id| root(&streams, id) == Some(id)));
        assert_eq!(streams.others.len(), 100);
        assert!(ids().rev().step_by(997).all(|id| streams.take(id).is_some()));
    }
}
