//! Weights on their way to the GPU and back: cuDNN wants filters as
//! `outputs × kernel × kernel × inputs of a group`, the inside order has
//! `groups × kernel × kernel × inputs × outputs of a group`.

use crate::plan::{Parameter, ParameterLayout};

/// Elements in the GPU's order, from those in the order inside.
#[must_use]
pub fn to_device<T: Copy>(parameter: &Parameter, inside: &[T]) -> Vec<T> {
    match sources(parameter) {
        Some(sources) => sources.map(|source| inside[source]).collect(),
        None => inside.to_vec(),
    }
}

/// Elements in the order inside, from those in the GPU's order.
#[must_use]
pub fn from_device<T: Copy + Default>(parameter: &Parameter, device: &[T]) -> Vec<T> {
    match sources(parameter) {
        Some(sources) => {
            let mut inside = vec![T::default(); device.len()];
            for (value, source) in device.iter().zip(sources) {
                inside[source] = *value;
            }
            inside
        }
        None => device.to_vec(),
    }
}

/// For each element on the GPU, in order, its index inside; none if both orders are the same.
fn sources(parameter: &Parameter) -> Option<impl Iterator<Item = usize> + use<>> {
    let ParameterLayout::Convolution { groups, outputs, inputs, positions } = parameter.layout
    else {
        return None;
    };
    Some((0..groups * outputs).flat_map(move |channel| {
        let (group, output) = (channel / outputs, channel % outputs);
        (0..positions * inputs)
            .map(move |row| (group * positions * inputs + row) * outputs + output)
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::optimizer::Role;

    /// Each element is named by its place outside, (output, input, position), so both orders can be
    /// written down.
    #[test]
    fn filters_by_their_definition() {
        let (groups, outputs, inputs, positions) = (2, 3, 2, 4);
        let parameter = Parameter {
            name: "conv.weight".to_owned(),
            role: Role::Weight,
            shape: vec![groups * outputs, inputs, 2, 2],
            layout: ParameterLayout::Convolution { groups, outputs, inputs, positions },
        };
        let outside: Vec<usize> = (0..groups * outputs * inputs * positions).collect();
        let inside = parameter.from_torch(&outside);
        let device = to_device(&parameter, &inside);
        let mut expected = Vec::new();
        for output in 0..groups * outputs {
            for position in 0..positions {
                for input in 0..inputs {
                    expected.push((output * inputs + input) * positions + position);
                }
            }
        }
        assert_eq!(device, expected);
        assert_eq!(from_device(&parameter, &device), inside);
    }

    #[test]
    fn other_tensors_stay_as_they_are() {
        let layout = ParameterLayout::Linear { outputs: 2, channels: 3, pixels: 1 };
        let (name, role) = ("fc.weight".to_owned(), Role::Weight);
        let parameter = Parameter { name, role, shape: vec![2, 3], layout };
        assert_eq!(to_device(&parameter, &[1, 2, 3, 4, 5, 6]), [1, 2, 3, 4, 5, 6]);
        assert_eq!(from_device(&parameter, &[1, 2, 3, 4, 5, 6]), [1, 2, 3, 4, 5, 6]);
    }
}
