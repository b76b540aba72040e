//! The fewest inputs that reach the most code, by what libFuzzer noted when it merged a corpus.

use std::collections::BTreeSet;
use std::path::PathBuf;

use anyhow::{Context, Result};

/// No target keeps more inputs; the engine's tests replay them all.
pub const MOST: usize = 100;

/// An input, and the code that it reaches.
struct Input {
    file: PathBuf,
    reached: BTreeSet<u64>,
}

/// Chooses from a merge's control file: a count, the number of inputs that stay in any case, a name a line, then a line `FT number
/// features…` for each input. Always the one that reaches the most that is new, until none does or there are [`MOST`].
pub fn choose(control: &str) -> Result<Vec<PathBuf>> {
    let mut inputs = read(control).context("libFuzzer's control file is not understood")?;
    let (mut chosen, mut reached) = (Vec::new(), BTreeSet::new());
    while chosen.len() < MOST {
        let gain = |input: &Input| input.reached.difference(&reached).count();
        // Of equals the first, so that the choice is the same again.
        let best = (0..inputs.len()).rev().max_by_key(|at| gain(&inputs[*at]));
        let Some(best) = best.filter(|at| gain(&inputs[*at]) > 0) else { break };
        let input = inputs.swap_remove(best);
        reached.extend(input.reached);
        chosen.push(input.file);
    }
    Ok(chosen)
}

fn read(control: &str) -> Option<Vec<Input>> {
    let mut lines = control.lines();
    let count: usize = lines.next()?.parse().ok()?;
    lines.next()?;
    let mut inputs: Vec<Input> = lines
        .by_ref()
        .take(count)
        .map(|name| Input { file: name.into(), reached: BTreeSet::new() })
        .collect();
    for line in lines {
        if let Some(features) = line.strip_prefix("FT ") {
            let mut numbers = features.split_whitespace().map(|number| number.parse::<u64>().ok());
            let at = usize::try_from(numbers.next()??).ok()?;
            inputs.get_mut(at)?.reached = numbers.collect::<Option<_>>()?;
        }
    }
    (inputs.len() == count).then_some(inputs)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONTROL: &str =
        "4\n0\na\nb\nc\nd\nSTARTED 0 9\nFT 0 1 2\nCOV 0 7\nSTARTED 1 9\nFT 1 2 3 4\nFT 2 4\nFT 3 1\n";

    #[test]
    fn what_reaches_the_most_is_chosen_and_what_reaches_nothing_new_is_not() {
        assert_eq!(choose(CONTROL).unwrap(), [PathBuf::from("b"), PathBuf::from("a")]);
    }

    #[test]
    fn no_more_are_chosen_than_a_test_can_replay() {
        let names = "x\n".repeat(200);
        let features: String = (0..200).map(|i| format!("FT {i} {i}\n")).collect();
        assert_eq!(choose(&format!("200\n0\n{names}{features}")).unwrap().len(), MOST);
    }

    #[test]
    fn a_control_file_that_is_none_is_refused() {
        for text in ["", "x", "3\n0\na\n", "1\n0\na\nFT 7 1\n", "1\n0\na\nFT 0 x\n"] {
            assert!(choose(text).is_err(), "{text:?}");
        }
    }
}
