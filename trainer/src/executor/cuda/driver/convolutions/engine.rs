//! cuDNN's engines: which can run a graph, and what each promises of its numbers.

use std::ffi::c_int;

pub(super) use cudarc::cudnn::sys::cudnnBackendHeurMode_t as Heuristic;
use cudarc::cudnn::sys::{
    cudnnBackendAttributeType_t as Type, cudnnBackendNumericalNote_t as Note,
};
use foretrain_sim::recording::NumberFormat;

use super::super::super::device::DeviceError;
use super::attempts::{Attempts, Stage};
use super::choice::Knob;
use super::descriptor::{Attribute as A, Descriptor, Kind, Unfinished};
use super::functions::{Cudnn, Opaque};

/// More kinds of knobs and of notes than there are.
const MOST_KNOBS: usize = 64;
const MOST_NOTES: usize = 64;

/// Proposals that are looked at: of those for single precision the first many use tensor cores.
const MOST_PROPOSALS: usize = 128;

/// The GPU for which engines are chosen.
pub(super) struct Target {
    pub(super) cudnn: &'static Cudnn,
    /// A handle on the GPU; null if the GPU is only described.
    pub(super) handle: Opaque,
    /// The description of a GPU that is not there.
    pub(super) device: Option<Descriptor>,
}

impl Target {
    pub(super) fn with_handle(
        &self,
        descriptor: Unfinished,
        attribute: A,
    ) -> Result<Unfinished, DeviceError> {
        if self.handle.is_null() {
            return Ok(descriptor);
        }
        descriptor.handle(attribute, self.handle)
    }

    fn with_device(&self, descriptor: Unfinished, attribute: A) -> Result<Unfinished, DeviceError> {
        match &self.device {
            Some(device) => descriptor.descriptors(attribute, &[device]),
            None => Ok(descriptor),
        }
    }
}

/// An engine with its settings, ready to run.
pub(super) struct Plan {
    pub(super) descriptor: Descriptor,
    /// The engine's number.
    pub(super) engine: i64,
    pub(super) knobs: Vec<Knob>,
    pub(super) workspace_bytes: usize,
}

/// The engines that a heuristic of cuDNN proposes for a graph, the best first, up to `most`, without
/// those whose numbers are not wanted or that need more workspace than the limit. Why others dropped
/// out is added to `attempts`.
pub(super) fn candidates(
    target: &Target,
    graph: &Descriptor,
    heuristic: Heuristic,
    limits: Limits,
    attempts: &mut Attempts,
) -> Vec<Plan> {
    let proposals = proposals(target, graph, heuristic as c_int);
    let proposals = attempts.keep(Stage::Proposing, proposals).unwrap_or_default();
    attempts.proposed(proposals.len());
    let mut plans = Vec::new();
    for settings in &proposals {
        if plans.len() == limits.candidates {
            break;
        }
        match attempts.keep(Stage::Noting, acceptable(settings, limits.format)) {
            Some(true) => {}
            Some(false) => {
                attempts.dropped(Stage::Noting);
                continue;
            }
            None => continue,
        }
        // An engine that is refused by this GPU is none.
        let Some(plan) = attempts.keep(Stage::Planning, plan(target, settings)) else { continue };
        if plan.workspace_bytes > limits.workspace_bytes {
            attempts.dropped(Stage::Workspace);
            continue;
        }
        plans.push(plan);
    }
    plans
}

/// What candidates must keep to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub(super) format: NumberFormat,
    pub(super) workspace_bytes: usize,
    /// How many are enough.
    pub(super) candidates: usize,
}

/// The settings of engines that cuDNN expects to be fast for a graph.
#[cfg(test)]
pub(super) fn expected_fast(
    target: &Target,
    graph: &Descriptor,
) -> Result<Vec<Descriptor>, DeviceError> {
    proposals(target, graph, Heuristic::CUDNN_HEUR_MODE_A as c_int)
}

fn proposals(
    target: &Target,
    graph: &Descriptor,
    mode: c_int,
) -> Result<Vec<Descriptor>, DeviceError> {
    let kind = Kind::CUDNN_BACKEND_ENGINECFG_DESCRIPTOR;
    let heuristic = Unfinished::new(target.cudnn, Kind::CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR)?
        .descriptors(A::CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, &[graph])?
        .choice(A::CUDNN_ATTR_ENGINEHEUR_MODE, Type::CUDNN_TYPE_HEUR_MODE, mode)?;
    target.with_device(heuristic, A::CUDNN_ATTR_ENGINEHEUR_DEVICEPROP)?.finish()?.parts(
        A::CUDNN_ATTR_ENGINEHEUR_RESULTS,
        kind,
        MOST_PROPOSALS,
    )
}

fn engine_of(settings: &Descriptor) -> Result<Descriptor, DeviceError> {
    let kind = Kind::CUDNN_BACKEND_ENGINE_DESCRIPTOR;
    let engines = settings.parts(A::CUDNN_ATTR_ENGINECFG_ENGINE, kind, 1)?;
    engines.into_iter().next().ok_or_else(|| DeviceError::Call {
        call: "getting the engine of its settings".to_owned(),
        problem: "there is none".to_owned(),
    })
}

fn acceptable(settings: &Descriptor, format: NumberFormat) -> Result<bool, DeviceError> {
    let notes = engine_of(settings).and_then(|engine| {
        let note = Type::CUDNN_TYPE_NUMERICAL_NOTE;
        engine.all_chosen(A::CUDNN_ATTR_ENGINE_NUMERICAL_NOTE, note, MOST_NOTES)
    });
    Ok(promises_enough(&notes?, format))
}

/// Whether what an engine notes about its numbers is acceptable: runs repeat bit for bit, sums are
/// in single precision, and numbers of single precision are multiplied as such, not as
/// TensorFloat-32.
fn promises_enough(notes: &[c_int], format: NumberFormat) -> bool {
    let notes_one_of =
        |refused: &[Note]| refused.iter().any(|note| notes.contains(&(*note as c_int)));
    let never = [
        Note::CUDNN_NUMERICAL_NOTE_NONDETERMINISTIC,
        Note::CUDNN_NUMERICAL_NOTE_REDUCED_PRECISION_REDUCTION,
        Note::CUDNN_NUMERICAL_NOTE_DOWN_CONVERT_INPUTS,
    ];
    let tensor_core = [Note::CUDNN_NUMERICAL_NOTE_TENSOR_CORE];
    !notes_one_of(&never) && (format != NumberFormat::F32 || !notes_one_of(&tensor_core))
}

fn plan(target: &Target, settings: &Descriptor) -> Result<Plan, DeviceError> {
    let kind = Kind::CUDNN_BACKEND_KNOB_CHOICE_DESCRIPTOR;
    let mut knobs = Vec::new();
    for knob in settings.parts(A::CUDNN_ATTR_ENGINECFG_KNOB_CHOICES, kind, MOST_KNOBS)? {
        knobs.push(Knob {
            kind: knob.chosen(A::CUDNN_ATTR_KNOB_CHOICE_KNOB_TYPE, Type::CUDNN_TYPE_KNOB_TYPE)?,
            value: knob.integer(A::CUDNN_ATTR_KNOB_CHOICE_KNOB_VALUE)?,
        });
    }
    let engine = engine_of(settings)?.integer(A::CUDNN_ATTR_ENGINE_GLOBAL_INDEX)?;
    let (descriptor, workspace_bytes) = execution_plan(target, settings)?;
    Ok(Plan { descriptor, engine, knobs, workspace_bytes })
}

fn execution_plan(
    target: &Target,
    settings: &Descriptor,
) -> Result<(Descriptor, usize), DeviceError> {
    let plan = Unfinished::new(target.cudnn, Kind::CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR)?
        .descriptors(A::CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, &[settings])?;
    let plan = target.with_handle(plan, A::CUDNN_ATTR_EXECUTION_PLAN_HANDLE)?;
    let plan = target.with_device(plan, A::CUDNN_ATTR_EXECUTION_PLAN_DEVICEPROP)?.finish()?;
    let bytes = plan.integer(A::CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE)?;
    Ok((plan, usize::try_from(bytes).unwrap_or(usize::MAX)))
}

/// An engine by its number with the settings that it had when it was chosen.
pub(super) fn restored(
    target: &Target,
    graph: &Descriptor,
    engine: i64,
    knobs: &[Knob],
) -> Result<Plan, DeviceError> {
    let cudnn = target.cudnn;
    let described = Unfinished::new(cudnn, Kind::CUDNN_BACKEND_ENGINE_DESCRIPTOR)?
        .descriptors(A::CUDNN_ATTR_ENGINE_OPERATION_GRAPH, &[graph])?
        .integers(A::CUDNN_ATTR_ENGINE_GLOBAL_INDEX, &[engine])?;
    let described = target.with_device(described, A::CUDNN_ATTR_ENGINE_DEVICEPROP)?.finish()?;
    let mut set = Vec::new();
    for knob in knobs {
        let kind = Type::CUDNN_TYPE_KNOB_TYPE;
        let knob = Unfinished::new(cudnn, Kind::CUDNN_BACKEND_KNOB_CHOICE_DESCRIPTOR)?
            .choice(A::CUDNN_ATTR_KNOB_CHOICE_KNOB_TYPE, kind, knob.kind)?
            .integers(A::CUDNN_ATTR_KNOB_CHOICE_KNOB_VALUE, &[knob.value])?
            .finish()?;
        set.push(knob);
    }
    let mut settings = Unfinished::new(cudnn, Kind::CUDNN_BACKEND_ENGINECFG_DESCRIPTOR)?
        .descriptors(A::CUDNN_ATTR_ENGINECFG_ENGINE, &[&described])?;
    if !set.is_empty() {
        let set: Vec<&Descriptor> = set.iter().collect();
        settings = settings.descriptors(A::CUDNN_ATTR_ENGINECFG_KNOB_CHOICES, &set)?;
    }
    let (descriptor, workspace_bytes) = execution_plan(target, &settings.finish()?)?;
    Ok(Plan { descriptor, engine, knobs: knobs.to_vec(), workspace_bytes })
}

/// Where a plan finds input, filters, output and workspace.
pub(super) fn places(
    cudnn: &'static Cudnn,
    addresses: [u64; 3],
    workspace: u64,
) -> Result<Descriptor, DeviceError> {
    Unfinished::new(cudnn, Kind::CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR)?
        .integers(A::CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, &super::graph::NAMES)?
        .addresses(A::CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, &addresses)?
        .addresses(A::CUDNN_ATTR_VARIANT_PACK_WORKSPACE, &[workspace])?
        .finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn engines_whose_numbers_are_not_wanted_are_refused() {
        let [tensor, down, reduced, fft, random, winograd] = [
            Note::CUDNN_NUMERICAL_NOTE_TENSOR_CORE,
            Note::CUDNN_NUMERICAL_NOTE_DOWN_CONVERT_INPUTS,
            Note::CUDNN_NUMERICAL_NOTE_REDUCED_PRECISION_REDUCTION,
            Note::CUDNN_NUMERICAL_NOTE_FFT,
            Note::CUDNN_NUMERICAL_NOTE_NONDETERMINISTIC,
            Note::CUDNN_NUMERICAL_NOTE_WINOGRAD,
        ]
        .map(|note| note as c_int);
        for (notes, half, single) in [
            (vec![], true, true),
            (vec![tensor], true, false),
            (vec![fft, winograd], true, true),
            (vec![tensor, random], false, false),
            (vec![reduced], false, false),
            (vec![down, tensor], false, false),
            (vec![1000], true, true),
        ] {
            assert_eq!(promises_enough(&notes, NumberFormat::F16), half, "{notes:?}");
            assert_eq!(promises_enough(&notes, NumberFormat::Bf16), half, "{notes:?}");
            assert_eq!(promises_enough(&notes, NumberFormat::F32), single, "{notes:?}");
        }
    }
}
