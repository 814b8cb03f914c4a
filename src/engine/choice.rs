//! Any device will do: how much work, and what each device is known to do a second, go in; the one to take and why
//! comes out.

use super::devices::Work;
use crate::error::{Result, escape};

/// The share of its peak ([`rate`]) that a GPU reaches over a whole model, and of its own that a CPU does (Winograd
/// counts as a direct convolution). Estimates for a choice, nothing more.
const GPU_SHARE: f64 = 0.3;
const CPU_SHARE: f64 = 1.0;
/// Bytes of weights a second from a file to a device.
const LOADING: f64 = 1e9;
/// Seconds until a GPU does its first work: a device is opened, pipelines are built or read.
const START: f64 = 1.0;

/// A graphics card, as plain data.
#[derive(Debug)]
pub struct Card {
    /// Its name.
    pub name: String,
    /// Whether it is a program on the processor: never taken here.
    pub software: bool,
    /// FLOP/s at best, see [`rate`], or why it cannot be used.
    pub rate: Result<f64>,
}

/// FLOP/s of a card at best, from what was measured on it: f32 multiply-adds, and how many times as fast its tensor
/// cores do the same products, which counts only if they are used.
pub fn rate(fma: f64, gain: f64) -> f64 {
    fma * gain.max(1.0)
}

/// What was decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// Which card; none is the CPU.
    pub card: Option<usize>,
    /// One line.
    pub reason: String,
    /// Cards that could not be asked, in sentences.
    pub notes: Vec<String>,
}

/// Seconds on a CPU with this FMA peak.
pub fn on_cpu(work: Work, peak: f64) -> f64 {
    work.flops / (CPU_SHARE * peak) + work.weight_bytes / LOADING
}

fn on_gpu(work: Work, rate: f64) -> f64 {
    START + work.flops / (GPU_SHARE * rate) + work.weight_bytes / LOADING
}

/// The reason where no card can be faster than the CPU is; none where it is worth while to ask them.
pub fn trifle(work: Work, peak: f64) -> Option<String> {
    let cpu = on_cpu(work, peak);
    let start = START + work.weight_bytes / LOADING;
    (cpu <= start).then(|| format!("the CPU (estimated about {cpu:.1} s: too little to look for a GPU)"))
}

/// The least estimated time wins; the CPU where it is as good. `must`: a card is taken whatever it takes, if there is
/// one.
pub fn choose(work: Work, peak: f64, cards: &[Card], must: bool) -> Choice {
    let cpu = on_cpu(work, peak);
    let mut times: Vec<(usize, f64)> = Vec::new();
    let mut notes = Vec::new();
    for (i, card) in cards.iter().enumerate().filter(|(_, c)| !c.software) {
        match &card.rate {
            Ok(rate) => times.push((i, on_gpu(work, *rate))),
            Err(e) => notes.push(format!("{e}; going on without it")),
        }
    }
    // Of equals the first: cards are listed in order of preference.
    let best = times.iter().copied().reduce(|a, b| if b.1 < a.1 { b } else { a });
    let card = best.filter(|(_, time)| must || *time < cpu).map(|(i, _)| i);
    let name = |i: usize| escape(&cards[i].name);
    let winner = card.map_or_else(|| "the CPU".to_owned(), name);
    let listed: Vec<String> = times.iter().map(|(i, time)| format!("{time:.1} s on {}", name(*i))).collect();
    let reason = match listed.is_empty() {
        true => format!("{winner} (estimated about {cpu:.1} s; no GPU can be used)"),
        false => format!("{winner} (estimated about {}, {cpu:.1} s on the CPU)", listed.join(", ")),
    };
    Choice { card, reason, notes }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;

    /// 20 guided steps of SD 1.5 at 512x512 and the decoder.
    const SD15: Work = Work { flops: 20.0 * 1.6e12 + 2.5e12, weight_bytes: 2.1e9 };
    /// Two cores.
    const PEAK: f64 = 200e9;

    fn card(name: &str, rate: f64) -> Card {
        Card { name: name.into(), software: false, rate: Ok(rate) }
    }

    fn taken(work: Work, cards: &[Card]) -> (Option<usize>, String) {
        let choice = choose(work, PEAK, cards, false);
        (choice.card, choice.reason)
    }

    #[test]
    fn a_program_on_the_processor_is_never_taken() {
        // However fast it says that it is, and even if a card is a must.
        let cards = [Card { software: true, ..card("llvmpipe", 1e15) }];
        for must in [false, true] {
            let choice = choose(SD15, PEAK, &cards, must);
            assert!(choice.card.is_none() && choice.notes.is_empty(), "{choice:?}");
            assert_eq!(choice.reason, "the CPU (estimated about 174.6 s; no GPU can be used)");
        }
    }

    #[test]
    fn the_least_estimated_time_is_taken_and_said() {
        let cards = [card("Discrete", 10e12), card("Integrated", 1e12)];
        let (taken_card, reason) = taken(SD15, &cards);
        assert_eq!(taken_card, Some(0));
        assert_eq!(reason, "Discrete (estimated about 14.6 s on Discrete, 118.1 s on Integrated, 174.6 s on the CPU)");
        // Order is preference among equals, not more.
        assert_eq!(taken(SD15, &[card("Slow", 1e12), card("Fast", 10e12)]).0, Some(1));
        assert_eq!(taken(SD15, &[card("One", 10e12), card("Two", 10e12)]).0, Some(0));
        // A card that is slower than the processor.
        assert_eq!(taken(SD15, &[card("Old", 0.3e12)]).0, None);
    }

    #[test]
    fn tensor_cores_that_are_used_count_as_much_as_was_measured() {
        // Slower by FMA, faster with what its tensor cores gained where they were measured.
        let plain = card("Plain", 10e12);
        let with = |gain| card("Tensor", rate(6e12, gain));
        assert_eq!(taken(SD15, &[plain, with(1.0)]).0, Some(0));
        let (chosen, reason) = taken(SD15, &[card("Plain", 10e12), with(4.0)]);
        assert_eq!(chosen, Some(1));
        assert_eq!(reason, "Tensor (estimated about 14.6 s on Plain, 7.9 s on Tensor, 174.6 s on the CPU)");
        // Nothing is ever lost by them: where they are slower they are not used.
        assert_eq!(rate(6e12, 0.5), 6e12);
        // A card that pays only because of them.
        let old = |gain| card("Old", rate(0.3e12, gain));
        assert_eq!((taken(SD15, &[old(1.0)]).0, taken(SD15, &[old(4.0)]).0), (None, Some(0)));
    }

    #[test]
    fn starting_a_card_counts() {
        let little = Work { flops: 250e9, weight_bytes: 0.0 };
        assert!(trifle(little, PEAK).is_none());
        assert_eq!(taken(little, &[card("Fast", 10e12)]).0, Some(0));
        assert_eq!(taken(little, &[card("Slower", 1e12)]).0, None);
        let less = Work { flops: 100e9, ..little };
        assert_eq!(taken(less, &[card("Fast", 1e15)]).0, None);
        assert_eq!(
            trifle(less, PEAK).as_deref(),
            Some("the CPU (estimated about 0.5 s: too little to look for a GPU)")
        );
        // f16 was asked for, which the CPU has not.
        assert_eq!(choose(less, PEAK, &[card("Fast", 1e15)], true).card, Some(0));
    }

    #[test]
    fn a_card_that_is_refused_is_named_and_gone_without() {
        let why = "Broken, Vulkan, maker 1.2 cannot be opened: lost; update the driver, or use the CPU";
        let broken = Card { rate: Err(Error::other(why)), ..card("Broken", 0.0) };
        let choice = choose(SD15, PEAK, &[broken, card("Second", 10e12)], false);
        assert_eq!(choice.card, Some(1));
        assert_eq!(choice.notes, [format!("{why}; going on without it")]);
        assert!(!choice.reason.contains("Broken"), "{}", choice.reason);
    }
}
