//! What the visitors of the last requests were given. Most requests come from a visitor who was on the same page just before:
//! then nothing has to be decided, whether it is a bot neither, and one look says that all its exposures were reported.

use super::combinations::Mark;
use edgesplit_engine::hash::seeded;

/// How many visitors with their pages are remembered; a power of two.
pub const RECENT_VISITORS_MAX: usize = 4_096;

/// What a visitor was given on a page whose experiments ask nothing but the id.
#[derive(Debug, Clone, Copy)]
pub struct Recent {
    /// The visitor with user agent and page by 64 bits: with all places taken, the odds that another passes for one are 1 in 10^15.
    /// 0 stands for nobody.
    name: u64,
    /// The combination that it was.
    pub given: Mark,
    /// The number of the last window in which all exposures of it were reported; the least number for none.
    pub reported: i64,
}

const NOBODY: Recent = Recent { name: 0, given: Mark::NONE, reported: i64::MIN };

/// The visitors of one worker.
#[derive(Debug)]
pub struct RecentVisitors {
    seed: u64,
    /// Each at the place that the name gives, where the last one stays.
    places: Vec<Recent>,
}

impl RecentVisitors {
    /// Nobody yet. With another `seed`, others share a place.
    pub fn new(seed: u64) -> RecentVisitors {
        RecentVisitors { seed, places: Vec::new() }
    }

    /// What the visitor `id` with this user agent is called on the page with the experiments `candidates`.
    #[inline(always)]
    pub fn name(&self, id: &[u8], user_agent: Option<&[u8]>, candidates: &[u32]) -> u64 {
        let page = candidates.iter().fold(candidates.len() as u64, |page, number| {
            (page ^ u64::from(*number)).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29)
        });
        // No user agent has a NUL.
        [id, user_agent.unwrap_or(b"\0")].iter().fold(self.seed ^ page, |name, part| seeded(name, part)).max(1)
    }

    /// What is remembered of `name`.
    #[inline(always)]
    pub fn recall(&self, name: u64) -> Option<&Recent> {
        self.places.get(place(name)).filter(|recent| recent.name == name)
    }

    /// Remembers what `name` was given.
    pub fn remember(&mut self, name: u64, given: Mark) {
        self.places.resize(RECENT_VISITORS_MAX, NOBODY);
        if let Some(place) = self.places.get_mut(place(name)) {
            *place = Recent { name, given, reported: i64::MIN };
        }
    }

    /// All exposures of what `name` was given were reported in the window with the number `window`.
    pub fn reported(&mut self, name: u64, window: i64) {
        let known = self.places.get_mut(place(name));
        if let Some(recent) = known.filter(|recent| recent.name == name) {
            recent.reported = window;
        }
    }
}

#[inline(always)]
fn place(name: u64) -> usize {
    name as usize % RECENT_VISITORS_MAX
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_visitor_is_known_on_the_page_where_another_did_not_take_the_place() {
        let mut visitors = RecentVisitors::new(7);
        let name = visitors.name(b"u1", Some(b"Firefox"), &[1, 2]);
        for (id, agent, candidates) in [
            (&b"u1"[..], Some(&b"Firefox"[..]), &[2, 1][..]),
            (b"u1", Some(b"Firefox"), &[1]),
            (b"u1", Some(b"Firefox"), &[1, 2, 0]),
            (b"u1", Some(b"Firefoy"), &[1, 2]),
            (b"u1", Some(b""), &[1, 2]),
            (b"u1", None, &[1, 2]),
            (b"u2", Some(b"Firefox"), &[1, 2]),
        ] {
            assert_ne!(visitors.name(id, agent, candidates), name, "{id:?} {agent:?} {candidates:?}");
        }
        assert!(visitors.recall(name).is_none());
        let given = Mark::new(3, 9);
        visitors.remember(name, given);
        let recent = visitors.recall(name).unwrap();
        assert_eq!((recent.given, recent.reported), (given, i64::MIN));
        visitors.reported(name, 5);
        visitors.reported(name ^ (1 << 63), 6);
        assert_eq!(visitors.recall(name).unwrap().reported, 5);
        visitors.remember(name ^ (1 << 63), given);
        assert!(visitors.recall(name).is_none());
        assert_eq!(visitors.places.len(), RECENT_VISITORS_MAX);
    }

    #[test]
    fn names_do_not_fall_together() {
        let visitors = RecentVisitors::new(1);
        let names = (0..100_000).map(|number| visitors.name(format!("visitor-{number}").as_bytes(), None, &[0, 1, 2]));
        let mut names: Vec<u64> = names.collect();
        let places: std::collections::HashSet<u64> =
            names.iter().take(4_096).map(|name| name % RECENT_VISITORS_MAX as u64).collect();
        // Of as many as there are places, 63 % of the places are taken where chance decides.
        assert!((2_450..2_730).contains(&places.len()), "{}", places.len());
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), 100_000);
    }
}
