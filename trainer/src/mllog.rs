//! Lines of MLPerf's training log, as its compliance checker reads them.
//!
//! ```text
//! :::MLLOG {"namespace": "", "time_ms": 1592518321437, "event_type": "INTERVAL_START",
//!           "key": "run_start", "value": null, "metadata": {"file": "src/train.rs", "lineno": 12}}
//! ```
//!
//! (One line each.) Format and keys are those of the package `mlperf_logging`
//! (github.com/mlcommons/logging): `mllog/mllog.py`, and `compliance_checker` with its rules for
//! `resnet` of training 4.0 and before. Rules of a version ask for keys of their own names: warm-up
//! is written under both names that it has had.
//!
//! Left out: what is not the trainer's to know, such as `submission_poc_name`. A run that is no
//! submission has a [`Submission`] like any other, and the checker reads it.

use std::io::{self, Write};
use std::panic::Location;

use serde_json::{Map, Value, json};

use crate::config::Config;
use crate::optimizer::{Lars, Momentum, Rule};
use crate::schedule::{Decay, PolynomialDecay, Schedule, StepDecay, WarmupShape};

/// Who says that what ran where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Submission {
    /// The organisation; not empty.
    pub org: String,
    /// The machine; not empty.
    pub platform: String,
    /// `closed` or `open`.
    pub division: String,
    /// `cloud`, `onprem`, `preview` or `research`.
    pub status: String,
}

/// What only the data can tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Samples {
    /// Images of an epoch of training.
    pub train: u64,
    /// Images of an evaluation.
    pub eval: u64,
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunStatus {
    /// It reached its target.
    Success,
    /// It did not.
    Aborted,
}

/// Writes the lines of one run.
///
/// `clock` gives milliseconds since 1970. Every line is flushed, so that a log tells how far a
/// killed run came. Epochs are counted from 1, as MLPerf's logs do.
#[derive(Debug)]
pub struct MlLog<W, C> {
    writer: W,
    clock: C,
}

#[derive(Clone, Copy)]
enum EventType {
    Start,
    End,
    Point,
}

impl<W: Write, C: FnMut() -> u64> MlLog<W, C> {
    /// A log that begins.
    pub fn new(writer: W, clock: C) -> Self {
        Self { writer, clock }
    }

    /// Who says that what ran where.
    ///
    /// # Errors
    /// When the line cannot be written; so it is with all methods.
    #[track_caller]
    pub fn submission(&mut self, submission: &Submission) -> io::Result<()> {
        let Submission { org, platform, division, status } = submission;
        self.point("submission_benchmark", json!("resnet"), json!({}))?;
        self.point("submission_org", json!(org), json!({}))?;
        self.point("submission_platform", json!(platform), json!({}))?;
        self.point("submission_division", json!(division), json!({}))?;
        self.point("submission_status", json!(status), json!({}))
    }

    /// The caches of the operating system have been emptied.
    ///
    /// # Errors
    /// When the line cannot be written.
    #[track_caller]
    pub fn cache_clear(&mut self) -> io::Result<()> {
        self.point("cache_clear", json!(true), json!({}))
    }

    /// The settings of a run: of its schedule and optimizer those that the rules ask for.
    ///
    /// # Errors
    /// When a line cannot be written.
    #[track_caller]
    pub fn settings(
        &mut self,
        config: &Config,
        schedule: &Schedule,
        samples: Samples,
    ) -> io::Result<()> {
        let mut point = |key: &str, value: Value| self.point(key, value, json!({}));
        point("seed", json!(config.seed))?;
        point("global_batch_size", json!(config.training.global_batch))?;
        point("gradient_accumulation_steps", json!(1))?;
        point("train_samples", json!(samples.train))?;
        point("eval_samples", json!(samples.eval))?;
        let warmup = &config.schedule.warmup;
        let warmup_epochs = if warmup.shape == WarmupShape::None { 0.0 } else { warmup.epochs };
        let whole = schedule.steps() as f64;
        let decay_steps = (whole * (1.0 - warmup_epochs / config.training.epochs)).round();
        let prefix = match config.optimizer {
            Rule::Lars(Lars { momentum, weight_decay, epsilon, .. }) => {
                point("opt_name", json!("lars"))?;
                point("lars_epsilon", json!(epsilon))?;
                point("lars_opt_momentum", json!(momentum))?;
                point("lars_opt_weight_decay", json!(weight_decay))?;
                point("lars_opt_learning_rate_warmup_epochs", json!(warmup_epochs))?;
                "lars_opt"
            }
            Rule::Momentum(Momentum { momentum, weight_decay, .. }) => {
                point("opt_name", json!("sgd"))?;
                point("sgd_opt_momentum", json!(momentum))?;
                point("sgd_opt_weight_decay", json!(weight_decay))?;
                "sgd_opt"
            }
        };
        point("opt_learning_rate_warmup_epochs", json!(warmup_epochs))?;
        point(&format!("{prefix}_base_learning_rate"), json!(schedule.peak()))?;
        match &config.schedule.decay {
            Decay::Polynomial(PolynomialDecay { power, end_lr }) => {
                point(&format!("{prefix}_end_learning_rate"), json!(end_lr))?;
                point(&format!("{prefix}_learning_rate_decay_poly_power"), json!(power))?;
                point(&format!("{prefix}_learning_rate_decay_steps"), json!(decay_steps))
            }
            Decay::Step(StepDecay { milestones, factor }) => {
                point("opt_learning_rate_decay_boundary_epochs", json!(milestones))?;
                point("opt_learning_rate_decay_factor", json!(factor))
            }
            Decay::Constant(_) | Decay::Cosine(_) => Ok(()),
        }
    }

    /// The program has started; data must not have been read yet.
    ///
    /// # Errors
    /// When the line cannot be written.
    #[track_caller]
    pub fn init_start(&mut self) -> io::Result<()> {
        self.line(EventType::Start, "init_start", Value::Null, json!({}))
    }

    /// Everything is ready to train.
    ///
    /// # Errors
    /// When the line cannot be written.
    #[track_caller]
    pub fn init_stop(&mut self) -> io::Result<()> {
        self.line(EventType::End, "init_stop", Value::Null, json!({}))
    }

    /// Training data may be read from here on; the time to train begins.
    ///
    /// # Errors
    /// When the line cannot be written.
    #[track_caller]
    pub fn run_start(&mut self) -> io::Result<()> {
        self.line(EventType::Start, "run_start", Value::Null, json!({}))
    }

    /// The time to train ends.
    ///
    /// # Errors
    /// When the line cannot be written.
    #[track_caller]
    pub fn run_stop(&mut self, status: RunStatus) -> io::Result<()> {
        let status = match status {
            RunStatus::Success => "success",
            RunStatus::Aborted => "aborted",
        };
        self.line(EventType::End, "run_stop", Value::Null, json!({ "status": status }))
    }

    /// Epochs from one evaluation to the next begin.
    ///
    /// # Errors
    /// When the line cannot be written.
    #[track_caller]
    pub fn block_start(&mut self, first_epoch: u64, epochs: u64) -> io::Result<()> {
        let metadata = json!({ "first_epoch_num": first_epoch, "epoch_count": epochs });
        self.line(EventType::Start, "block_start", Value::Null, metadata)
    }

    /// Epochs from one evaluation to the next have ended.
    ///
    /// # Errors
    /// When the line cannot be written.
    #[track_caller]
    pub fn block_stop(&mut self, first_epoch: u64, epochs: u64) -> io::Result<()> {
        let metadata = json!({ "first_epoch_num": first_epoch, "epoch_count": epochs });
        self.line(EventType::End, "block_stop", Value::Null, metadata)
    }

    /// An epoch begins.
    ///
    /// # Errors
    /// When the line cannot be written.
    #[track_caller]
    pub fn epoch_start(&mut self, epoch: u64) -> io::Result<()> {
        let metadata = json!({ "epoch_num": epoch });
        self.line(EventType::Start, "epoch_start", Value::Null, metadata)
    }

    /// An epoch has ended, `samples` images after the start of training.
    ///
    /// # Errors
    /// When the line cannot be written.
    #[track_caller]
    pub fn epoch_stop(&mut self, epoch: u64, samples: u64) -> io::Result<()> {
        let metadata = json!({ "epoch_num": epoch, "samples_count": samples });
        self.line(EventType::End, "epoch_stop", Value::Null, metadata)
    }

    /// An evaluation begins, `samples` images after the start of training.
    ///
    /// # Errors
    /// When the line cannot be written.
    #[track_caller]
    pub fn eval_start(&mut self, epoch: u64, samples: u64) -> io::Result<()> {
        let metadata = json!({ "epoch_num": epoch, "samples_count": samples });
        self.line(EventType::Start, "eval_start", Value::Null, metadata)
    }

    /// What an evaluation found: the share of images whose first guess is right, 0 to 1.
    ///
    /// # Errors
    /// When the line cannot be written.
    #[track_caller]
    pub fn eval_accuracy(&mut self, epoch: u64, samples: u64, top1: f64) -> io::Result<()> {
        let metadata = json!({ "epoch_num": epoch, "samples_count": samples });
        self.point("eval_accuracy", json!(top1), metadata)
    }

    /// An evaluation has ended.
    ///
    /// # Errors
    /// When the line cannot be written.
    #[track_caller]
    pub fn eval_stop(&mut self, epoch: u64, samples: u64) -> io::Result<()> {
        let metadata = json!({ "epoch_num": epoch, "samples_count": samples });
        self.line(EventType::End, "eval_stop", Value::Null, metadata)
    }

    #[track_caller]
    fn point(&mut self, key: &str, value: Value, metadata: Value) -> io::Result<()> {
        self.line(EventType::Point, key, value, metadata)
    }

    #[track_caller]
    fn line(
        &mut self,
        event_type: EventType,
        key: &str,
        value: Value,
        more: Value,
    ) -> io::Result<()> {
        let caller = Location::caller();
        let mut metadata = Map::new();
        metadata.insert("file".to_owned(), json!(caller.file()));
        metadata.insert("lineno".to_owned(), json!(caller.line()));
        if let Value::Object(more) = more {
            metadata.extend(more);
        }
        let line = json!({
            "namespace": "",
            "time_ms": (self.clock)(),
            "event_type": match event_type {
                EventType::Start => "INTERVAL_START",
                EventType::End => "INTERVAL_END",
                EventType::Point => "POINT_IN_TIME",
            },
            "key": key,
            "value": value,
            "metadata": metadata,
        });
        // One write a line, so that lines of several writers to a pipe do not mix.
        self.writer.write_all(format!(":::MLLOG {line}\n").as_bytes())?;
        self.writer.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    const CONFIG: &str = r#"
        name = "x"
        seed = 42
        network.model = "resnet50"
        data = { kind = "image-folder", train = "train" }
        training = { global_batch = 8192, epochs = 40 }
        schedule.linear_scaling = false
        schedule.base_lr = 9.6
        schedule.warmup.epochs = 4
    "#;

    fn lines(run: impl FnOnce(&mut MlLog<&mut Vec<u8>, &mut dyn FnMut() -> u64>)) -> Vec<Value> {
        let (mut written, mut now) = (Vec::new(), 1_592_518_321_000_u64);
        let mut clock = || {
            now += 1;
            now
        };
        run(&mut MlLog::new(&mut written, &mut clock));
        let text = String::from_utf8(written).unwrap();
        let token = |line: &str| line.strip_prefix(":::MLLOG ").unwrap().to_owned();
        text.lines().map(|line| serde_json::from_str(&token(line)).unwrap()).collect()
    }

    /// The values by key of the settings of a configuration; every key comes once.
    fn settings(optimizer: &str, decay: &str) -> BTreeMap<String, Value> {
        let text = format!("{CONFIG}schedule.decay = {decay}\noptimizer = {optimizer}\n");
        let config = Config::from_toml(&text).unwrap();
        let schedule = Schedule::new(config.schedule(), 8192, 156).unwrap();
        let samples = Samples { train: 1_281_167, eval: 50_000 };
        let written = lines(|log| log.settings(&config, &schedule, samples).unwrap());
        let values: BTreeMap<String, Value> = written
            .iter()
            .map(|line| {
                assert_eq!(line["event_type"], "POINT_IN_TIME");
                (line["key"].as_str().unwrap().to_owned(), line["value"].clone())
            })
            .collect();
        assert_eq!(values.len(), written.len());
        values
    }

    #[test]
    fn a_line_is_as_mlperf_writes_it() {
        let mut written = Vec::new();
        let mut log = MlLog::new(&mut written, || 1_592_518_321_437);
        log.eval_accuracy(4, 5_124_668, 0.759).unwrap();
        let lineno = line!() - 1;
        assert_eq!(
            String::from_utf8(written).unwrap(),
            format!(
                ":::MLLOG {{\"namespace\":\"\",\"time_ms\":1592518321437,\
                 \"event_type\":\"POINT_IN_TIME\",\"key\":\"eval_accuracy\",\"value\":0.759,\
                 \"metadata\":{{\"file\":{:?},\"lineno\":{lineno},\"epoch_num\":4,\
                 \"samples_count\":5124668}}}}\n",
                file!()
            )
        );
    }

    #[test]
    fn intervals_start_and_end_in_order() {
        let written = lines(|log| {
            log.init_start().unwrap();
            log.init_stop().unwrap();
            log.run_start().unwrap();
            log.block_start(1, 1).unwrap();
            log.epoch_start(1).unwrap();
            log.epoch_stop(1, 1000).unwrap();
            log.block_stop(1, 1).unwrap();
            log.eval_start(1, 1000).unwrap();
            log.eval_stop(1, 1000).unwrap();
            log.run_stop(RunStatus::Success).unwrap();
        });
        let shown: Vec<String> = written
            .iter()
            .map(|line| format!("{} {}", line["key"].as_str().unwrap(), line["event_type"]))
            .collect();
        let pairs = ["init", "run", "block", "epoch", "eval"];
        for pair in pairs {
            let start =
                shown.iter().position(|line| *line == format!("{pair}_start \"INTERVAL_START\""));
            let end =
                shown.iter().position(|line| *line == format!("{pair}_stop \"INTERVAL_END\""));
            assert!(start.unwrap() < end.unwrap(), "{pair}");
        }
        assert_eq!(shown.len(), 2 * pairs.len());
        assert_eq!(written[3]["metadata"]["first_epoch_num"], 1);
        assert_eq!(written[3]["metadata"]["epoch_count"], 1);
        assert_eq!(written[5]["metadata"]["samples_count"], 1000);
        assert_eq!(written[9]["metadata"]["status"], "success");
        let times: Vec<u64> =
            written.iter().map(|line| line["time_ms"].as_u64().unwrap()).collect();
        assert!(times.is_sorted());
    }

    #[test]
    fn lars_has_every_key_of_the_rules() {
        let lars = settings(
            "{ rule = \"lars\", weight_decay = 2e-4, momentum = 0.95, epsilon = 1e-8 }",
            "{ kind = \"polynomial\", power = 2, end_lr = 1e-4 }",
        );
        for (key, value) in [
            ("seed", json!(42)),
            ("opt_name", json!("lars")),
            ("global_batch_size", json!(8192)),
            ("gradient_accumulation_steps", json!(1)),
            ("train_samples", json!(1_281_167)),
            ("eval_samples", json!(50_000)),
            ("lars_opt_base_learning_rate", json!(9.6)),
            ("lars_opt_end_learning_rate", json!(1e-4)),
            ("lars_opt_learning_rate_decay_poly_power", json!(2.0)),
            // 40 epochs of 156 steps without the 4 of warm-up.
            ("lars_opt_learning_rate_decay_steps", json!(5616.0)),
            ("lars_epsilon", json!(1e-8)),
            ("lars_opt_learning_rate_warmup_epochs", json!(4.0)),
            ("opt_learning_rate_warmup_epochs", json!(4.0)),
            ("lars_opt_momentum", json!(0.95)),
            ("lars_opt_weight_decay", json!(2e-4)),
        ] {
            assert_eq!(lars.get(key), Some(&value), "{key}");
        }
    }

    #[test]
    fn momentum_with_steps_says_where_they_are() {
        let sgd = settings("{ rule = \"momentum\" }", "{ kind = \"step\" }");
        assert_eq!(sgd["opt_name"], "sgd");
        assert_eq!(sgd["sgd_opt_base_learning_rate"], 9.6);
        assert_eq!(sgd["opt_learning_rate_decay_boundary_epochs"], json!([30.0, 60.0, 80.0]));
        assert!(!sgd.keys().any(|key| key.starts_with("lars")));
    }

    #[test]
    fn a_submission_names_itself() {
        let submission = Submission {
            org: "nobody".to_owned(),
            platform: "a machine".to_owned(),
            division: "open".to_owned(),
            status: "research".to_owned(),
        };
        let written = lines(|log| {
            log.submission(&submission).unwrap();
            log.cache_clear().unwrap();
        });
        let keys: Vec<&str> = written.iter().map(|line| line["key"].as_str().unwrap()).collect();
        assert_eq!(
            keys,
            [
                "submission_benchmark",
                "submission_org",
                "submission_platform",
                "submission_division",
                "submission_status",
                "cache_clear"
            ]
        );
        assert_eq!(written[0]["value"], "resnet");
        assert_eq!(written[3]["value"], "open");
    }
}
