//! The devices behind agents that came before: telling one takes forty times as long as finding it here.
//!
//! A cache and nothing else: [`Device::of`] is a pure function, so what is remembered or forgotten decides nothing.

use hashbrown::HashMap;
use tally_model::Device;

/// A month of a large site's traffic has about so many that come more than once. An agent is cut at 1 KiB, so that two generations
/// take 34 MB at most, and usually a tenth of that.
const AGENTS_MAX: usize = 16_384;

/// Two generations: what was asked for since the last change stays when the older one is forgotten.
#[derive(Debug, Default)]
pub(crate) struct Agents {
    young: HashMap<Box<str>, Device>,
    old: HashMap<Box<str>, Device>,
    told: u64,
}

impl Agents {
    pub fn device(&mut self, agent: Option<&str>) -> Device {
        let Some(agent) = agent else { return Device::NONE };
        if let Some(device) = self.young.get(agent) {
            return *device;
        }
        let device = self.old.get(agent).copied().unwrap_or_else(|| {
            self.told += 1;
            Device::of(Some(agent))
        });
        if self.young.len() >= AGENTS_MAX {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(agent.into(), device);
        device
    }

    /// How many are held.
    pub fn len(&self) -> usize {
        self.young.len() + self.old.len()
    }

    /// How often one had to be told anew.
    pub fn told(&self) -> u64 {
        self.told
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROBOT: &str = "Googlebot/2.1";

    #[test]
    fn an_agent_is_told_once_and_gives_the_same_ever_after() {
        let mut agents = Agents::default();
        for _ in 0..3 {
            assert_eq!(agents.device(Some(ROBOT)), Device::of(Some(ROBOT)));
            assert_eq!(agents.device(None), Device::NONE);
        }
        assert_eq!((agents.told(), agents.len()), (1, 1));
    }

    #[test]
    fn any_number_of_agents_takes_bounded_memory_and_those_in_use_stay() {
        let mut agents = Agents::default();
        for n in 0..5 * AGENTS_MAX {
            let agent = format!("Browser/{n} Windows");
            assert_eq!(agents.device(Some(&agent)), Device::of(Some(&agent)));
            assert!(agents.device(Some(ROBOT)).is_robot());
            assert!(agents.len() <= 2 * AGENTS_MAX, "{} agents are held", agents.len());
        }
        assert_eq!(agents.told(), 5 * AGENTS_MAX as u64 + 1, "an agent in use was forgotten");
    }
}
