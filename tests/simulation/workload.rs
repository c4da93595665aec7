//! What visitors and operators do: requests, and the experiments that are in force; with an own idea of who gets which
//! variant, written down once more and apart from the engine.

use edgesplit_testkit::random::Random;
use serde_json::json;

/// A document of experiments as an operator wrote it.
#[derive(Debug, Clone)]
pub struct Doc {
    /// Its revision: different for every document.
    pub revision: String,
    experiments: Vec<Exp>,
}

#[derive(Debug, Clone)]
struct Exp {
    key: String,
    share: u32,
    weight: u32,
    state: &'static str,
    /// Its weights do not add up: it is disabled alone.
    broken: bool,
    /// It has a guardrail. Responses fail equally for all variants, so it must never switch one off.
    guarded: bool,
}

/// Where a visitor goes.
pub const PATHS: [&str; 3] = ["/checkout", "/api/orders", "/other"];

impl Doc {
    /// The `number`th document.
    pub fn new(rng: &mut Random, number: u64) -> Doc {
        let experiments = (0..rng.range(1, 6)).map(|at| Exp {
            key: format!("e{at}"),
            share: rng.pick(&[2_000, 10_000]),
            weight: rng.pick(&[0, 5_000, 9_000]),
            state: rng.pick(&["running", "running", "running", "paused", "concluded"]),
            broken: rng.one_in(6),
            guarded: rng.one_in(2),
        });
        Doc { experiments: experiments.collect(), revision: format!("r{number}") }
    }

    /// What the service serves.
    pub fn json(&self) -> Vec<u8> {
        let experiments: Vec<_> = (self.experiments.iter())
            .map(|one| {
                let rest = 10_000 - one.weight + u32::from(one.broken);
                let mut json = json!({
                    "key": one.key, "state": one.state, "traffic": one.share,
                    "route": {"paths": ["/checkout*"]},
                    "variants": [
                        {"key": "control", "weight": one.weight, "baseline": true}, {"key": "green", "weight": rest},
                    ],
                });
                if one.guarded {
                    // As sure as can be: there are millions of comparisons in ten thousand seeds.
                    json["guardrail"] =
                        json!({"min_exposures": 10, "max_5xx_ratio_increase": 0, "confidence": 0.999999});
                }
                if one.state == "concluded" {
                    json["winner"] = "green".into();
                }
                json
            })
            .collect();
        let document = json!({
            "schema": 1, "revision": self.revision, "experiments": experiments,
            "goals": [{"key": "purchase", "route": {"paths": ["/api/orders"]}, "statuses": ["2xx"]}],
        });
        document.to_string().into_bytes()
    }

    /// The assignments header that a visitor's request has to carry to the origin.
    pub fn assignments(&self, visitor: &str, path: &str) -> Option<String> {
        let variants = self.variants(visitor, path).map(|(one, variant)| format!("{}={variant}", one.key));
        let variants: Vec<String> = variants.collect();
        (!variants.is_empty()).then(|| variants.join(", "))
    }

    /// The experiments of a request that are reported, with the variants.
    pub fn exposures(&self, visitor: &str, path: &str) -> Vec<(String, &'static str)> {
        let running = self.variants(visitor, path).filter(|(one, _)| one.state == "running");
        running.map(|(one, variant)| (one.key.clone(), variant)).collect()
    }

    fn variants(&self, visitor: &str, path: &str) -> impl Iterator<Item = (&Exp, &'static str)> {
        let is_matched = path.starts_with("/checkout");
        self.experiments.iter().filter(move |one| is_matched && !one.broken).filter_map(move |one| {
            let variant = match one.state {
                "concluded" => "green",
                "paused" => return None,
                _ if bucket(&format!("{}/traffic/{visitor}", one.key)) >= one.share => return None,
                _ if bucket(&format!("{}/variant/{visitor}", one.key)) < one.weight => "control",
                _ => "green",
            };
            Some((one, variant))
        })
    }
}

/// The bucket of a text: murmur3_x86_32, written out.
fn bucket(text: &str) -> u32 {
    let mut hash = 0_u32;
    let mix = |chunk: u32| chunk.wrapping_mul(0xcc9e_2d51).rotate_left(15).wrapping_mul(0x1b87_3593);
    let chunks = text.as_bytes().chunks(4);
    for chunk in chunks {
        let mut word = [0; 4];
        word[..chunk.len()].copy_from_slice(chunk);
        hash ^= mix(u32::from_le_bytes(word));
        if chunk.len() == 4 {
            hash = hash.rotate_left(13).wrapping_mul(5).wrapping_add(0xe654_6b64);
        }
    }
    hash ^= text.len() as u32;
    hash = (hash ^ (hash >> 16)).wrapping_mul(0x85eb_ca6b);
    hash = (hash ^ (hash >> 13)).wrapping_mul(0xc2b2_ae35);
    hash ^= hash >> 16;
    ((u64::from(hash) * 10_000) >> 32) as u32
}

/// A visitor's request.
#[derive(Debug, Clone)]
pub struct Visit {
    /// Who.
    pub visitor: String,
    /// Where to.
    pub path: &'static str,
    /// What the origin will answer.
    pub status: &'static str,
}

impl Visit {
    /// Some visitor's next request.
    pub fn new(rng: &mut Random, visitors: u64) -> Visit {
        Visit {
            visitor: format!("v{}", rng.bits() % visitors),
            path: rng.pick(&PATHS),
            status: rng.pick(&["200", "200", "204", "404", "503"]),
        }
    }

    /// The headers of the request.
    pub fn request_headers(&self) -> Vec<(&'static str, String)> {
        vec![
            (":method", "GET".to_owned()),
            (":authority", "shop.example".to_owned()),
            (":path", self.path.to_owned()),
            ("x-user-id", self.visitor.clone()),
        ]
    }

    /// The headers of the response to it.
    pub fn response_headers(&self) -> Vec<(&'static str, String)> {
        vec![(":status", self.status.to_owned())]
    }
}
