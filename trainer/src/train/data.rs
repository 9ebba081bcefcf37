//! Opens what a configuration names.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use foretrain_sim::located::Problem;

use super::TrainError;
use crate::config::{Config, DataKind, Paths};
use crate::data::source::{
    Cifar, CifarKind, Idx, ImageFolder, Part, Sample, Source, SourceError, Synthetic,
    SyntheticShape, TarShards,
};

/// Images to train on, and to evaluate on.
pub(super) struct Sources {
    pub(super) train: Arc<dyn Source>,
    pub(super) eval: Option<Arc<dyn Source>>,
}

pub(super) fn open(config: &Config) -> Result<Sources, TrainError> {
    let data = &config.data;
    let folder = || data.folder.as_deref().unwrap_or(Path::new("."));
    let cifar = |kind, part| Ok(Arc::new(Cifar::folder(folder(), kind, part)?) as Arc<dyn Source>);
    let both = |open: &dyn Fn(Part) -> Result<Arc<dyn Source>, TrainError>| {
        Ok(Sources { train: open(Part::Training)?, eval: Some(open(Part::Test)?) })
    };
    match data.kind {
        DataKind::Cifar10 => both(&|part| cifar(CifarKind::Cifar10, part)),
        DataKind::Cifar100 => both(&|part| cifar(CifarKind::Cifar100, part)),
        DataKind::Idx => both(&|part| Ok(Arc::new(Idx::folder(folder(), part)?))),
        DataKind::ImageFolder => named(config, "data.train", &|paths| {
            let root = paths.0.first().map_or(Path::new("."), PathBuf::as_path);
            let folder = ImageFolder::open(root)?;
            let classes = folder.class_names().to_vec();
            Ok((Arc::new(folder), classes))
        }),
        DataKind::TarShards => named(config, "data.train", &|paths| {
            Ok((Arc::new(TarShards::open(shards(paths)?)?), Vec::new()))
        }),
        DataKind::Synthetic => synthetic(config),
    }
}

/// A source with the names of its classes.
type Named = (Arc<dyn Source>, Vec<String>);

/// Opens `data.train` and `data.eval`, whose classes must be the same.
fn named(
    config: &Config,
    key: &str,
    open: &dyn Fn(&Paths) -> Result<Named, TrainError>,
) -> Result<Sources, TrainError> {
    let Some(train) = &config.data.train else {
        return Err(Problem::new(key, "the images to train on are missing: give them").into());
    };
    let (train, classes) = open(train)?;
    let Some(eval) = &config.data.eval else { return Ok(Sources { train, eval: None }) };
    let (eval, eval_classes) = open(eval)?;
    if classes != eval_classes {
        // Labels are places in the sorted list of folders: one missing would shift all after it.
        let only = |some: &[String], others: &[String]| {
            some.iter().find(|class| !others.contains(class)).cloned()
        };
        let problem = match (only(&classes, &eval_classes), only(&eval_classes, &classes)) {
            (Some(class), _) => format!("it has no folder for class `{class}` of data.train"),
            (_, Some(class)) => format!("data.train has no folder for its class `{class}`"),
            _ => "its classes are not those of data.train".to_owned(),
        };
        return Err(Problem::new("data.eval", problem).into());
    }
    Ok(Sources { train, eval: Some(eval) })
}

/// The files that paths name: a folder stands for its .tar files, in the order of their names.
fn shards(paths: &Paths) -> Result<Vec<PathBuf>, TrainError> {
    let [folder] = paths.0.as_slice() else { return Ok(paths.0.clone()) };
    if !folder.is_dir() {
        return Ok(paths.0.clone());
    }
    let error = |error| TrainError::Source(SourceError::Io { path: folder.clone(), error });
    let mut shards = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(error)? {
        let path = entry.map_err(error)?.path();
        if path.extension().is_some_and(|extension| extension == "tar") {
            shards.push(path);
        }
    }
    if shards.is_empty() {
        let problem = format!("{} has no .tar files", folder.display());
        return Err(Problem::new("data.train", problem).into());
    }
    shards.sort();
    Ok(shards)
}

fn synthetic(config: &Config) -> Result<Sources, TrainError> {
    let settings = config.data.synthetic();
    let side = config.image_size();
    let samples = settings.samples.checked_add(settings.eval_samples).ok_or_else(|| {
        Problem::new("data.synthetic.eval_samples", "too many images: expected below 2^32 in all")
    })?;
    let shape = SyntheticShape {
        samples,
        classes: settings.classes,
        width: side,
        height: side,
        channels: config.channels() as u32,
    };
    let all = Arc::new(Synthetic::new(config.seed, shape).ok_or_else(|| {
        Problem::new("network.image_size", format!("images of {side} pixels cannot be made up"))
    })?);
    // Those to evaluate on come after those to train on.
    let part = |first, samples| Range { all: Arc::clone(&all), first, samples };
    let eval = (settings.eval_samples > 0)
        .then(|| Arc::new(part(settings.samples, settings.eval_samples)) as Arc<dyn Source>);
    Ok(Sources { train: Arc::new(part(0, settings.samples)), eval })
}

/// Some consecutive samples of a dataset.
struct Range {
    all: Arc<Synthetic>,
    first: u32,
    samples: u32,
}

impl Source for Range {
    fn len(&self) -> u32 {
        self.samples
    }

    fn classes(&self) -> u32 {
        self.all.classes()
    }

    fn name(&self, index: u32) -> String {
        self.all.name(self.first.saturating_add(index))
    }

    fn read(&self, index: u32) -> Result<Sample, SourceError> {
        if index >= self.samples {
            return Err(SourceError::NoSuchSample { index, samples: self.samples });
        }
        self.all.read(self.first + index)
    }
}
