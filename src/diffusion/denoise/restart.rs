//! Latents and noise levels in, denoised latents out: Heun with jumps back to a higher level (Xu et al. 2023).

use super::heun;
use super::run::Run;
use super::sigmas::karras;
use crate::error::Result;

/// The levels where the jumps start and end.
const LOW: f32 = 0.1;
const HIGH: f32 = 2.0;

/// Heun steps; each jump adds the noise that leads from the low level back to the high one. N steps in all.
pub(super) fn restart(run: &mut Run<'_>, x: &mut [f32]) -> Result<()> {
    let mut at: Option<f64> = None;
    for (sigma, next) in path(&run.plan.sigmas) {
        let (sigma, next) = (f64::from(sigma), f64::from(next));
        if let Some(level) = at.filter(|level| *level < sigma) {
            run.add_noise(x, (sigma * sigma - level * level).sqrt())?;
        }
        heun::step(run, x, sigma, next)?;
        at = Some(next);
        run.end_step(x)?;
    }
    Ok(())
}

/// The webui's choice of jumps: none below 20 steps; one of 9 steps; from 36 steps on two of a quarter of the steps.
fn path(sigmas: &[f32]) -> Vec<(f32, f32)> {
    let steps = sigmas.len() - 1;
    let pairs = |levels: &[f32]| levels.windows(2).map(|w| (w[0], w[1])).collect::<Vec<_>>();
    let (length, times) = match steps {
        0..20 => return pairs(sigmas),
        20..36 => (9, 1),
        _ => (steps / 4, 2),
    };
    let mut main = karras(steps - length * times, sigmas[steps - 1], sigmas[0]);
    main.push(0.0);
    let nearest = |level: f32| {
        let distance = |i: &usize| (main[*i] - level).abs();
        (0..main.len()).min_by(|a, b| distance(a).total_cmp(&distance(b))).unwrap_or(0)
    };
    let (low, high) = (nearest(LOW), nearest(HIGH));
    let mut list = pairs(&main);
    if high < low && main[low] > 0.0 {
        let jump = pairs(&karras(length + 1, main[low], main[high]));
        let repeated = jump.iter().copied().cycle().take(jump.len() * times);
        list.splice(low..low, repeated);
    }
    list
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jumps_keep_the_number_of_steps() {
        for (steps, jumps) in [(10, 0), (20, 1), (30, 1), (36, 2), (60, 2)] {
            let mut sigmas = karras(steps, 0.0292, 14.6146);
            sigmas.push(0.0);
            let list = path(&sigmas);
            assert_eq!(list.len(), steps);
            assert_eq!(list.windows(2).filter(|w| w[1].0 > w[0].1).count(), jumps, "{steps}");
            assert_eq!((list[0].0, list[steps - 1].1), (sigmas[0], 0.0));
            assert!(list.iter().all(|(a, b)| a > b));
        }
    }
}
