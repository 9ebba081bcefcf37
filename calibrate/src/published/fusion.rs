//! placeholder while being written
use std::collections::BTreeMap;

use foretrain_sim::catalogue::Catalogue;
use foretrain_sim::collective::{AlgorithmName, Engine};
use foretrain_sim::compute::{Anchor, LaunchMode, Precision};
use foretrain_sim::fusion::gradients;
use foretrain_sim::network::Link;
use foretrain_sim::scenario::spec::{AllReduceSpec, FusionRule, JitterSpec, ScenarioSpec, SimulationSpec};
use foretrain_sim::scenario::{Case, GradientPrecision, LinkName, resolve};
use foretrain_sim::step::Packing;
use foretrain_sim::units::{Bandwidth, Bytes, Fraction, ImageRate, SimDuration};
use foretrain_sim::workload::NetworkName;

use super::scaling::Shared;
use super::system::System;
use super::table::{Cells, Problem, Table};

#[derive(Debug, Clone, PartialEq)]
pub struct FusionRun {
    pub line: u64,
    pub id: String,
    pub system: System,
    pub per_accelerator_batch: u64,
    pub images_per_s: Option<f64>,
    pub spread: Option<f64>,
    pub anchor: String,
    pub network_anchor: String,
    pub overlap: bool,
    pub rule: Option<FusionRule>,
    pub gradient_precision: GradientPrecision,
}
impl FusionRun {
    pub fn read_all(table: &Table) -> Result<Vec<Self>, Problem> {
        table.rows().map(|c| Self::read(&c)).collect()
    }
    fn read(cells: &Cells<'_>) -> Result<Self, Problem> {
        Ok(Self {
            line: cells.line(),
            id: cells.named("id")?,
            system: System::read(cells)?,
            per_accelerator_batch: cells.quantity("per_accelerator_batch")?.unwrap_or(64.0) as u64,
            images_per_s: cells.quantity("images_per_s")?,
            spread: cells.quantity("images_per_s_spread")?,
            anchor: cells.text("anchor").to_owned(),
            network_anchor: cells.text("network_anchor").to_owned(),
            overlap: cells.text("overlap") == "yes",
            rule: match cells.text("fusion") { "" => None, t if t.starts_with("one bucket") => Some(FusionRule::OneBucket), t if t.starts_with("none") => Some(FusionRule::Tensor), _ => Some(FusionRule::MgWfbp) },
            gradient_precision: GradientPrecision::Fp32,
        })
    }
}
fn env(name: &str) -> Option<f64> { std::env::var(name).ok()?.parse().ok() }

fn spec(run: &FusionRun, anchor: &FusionRun) -> Result<ScenarioSpec, String> {
    let shared = Shared::shipped();
    let mut spec = ScenarioSpec { name: run.id.clone(), ..Default::default() };
    run.system.describe(&mut spec)?;
    let alg = match std::env::var("ALG").as_deref() { Ok("nccl") => AlgorithmName::Nccl, Ok("tree") => AlgorithmName::Tree, Ok("hier")=>AlgorithmName::Hierarchical, _ => AlgorithmName::Ring };
    spec.allreduce = AllReduceSpec { algorithm: Some(alg), gradient_precision: Some(run.gradient_precision), overlap: Some(run.overlap), ..Default::default() };
    spec.training.model = Some(NetworkName::Resnet50);
    spec.training.per_accelerator_batch = Some(run.per_accelerator_batch);
    spec.training.precision = Some(Precision::Fp32);
    spec.fusion.rule = run.rule;
    spec.compute.anchor = Some(Anchor::of_one(ImageRate::new(anchor.images_per_s.unwrap()), anchor.per_accelerator_batch));
    if env("LAUNCH").is_some() { spec.compute.launch = Some(LaunchMode::Eager); spec.compute.launch_time = Some(SimDuration::from_seconds(env("LAUNCH").unwrap()*1e-6)); }
    if let Some(v) = env("VAR") { let _ = shared; spec.jitter = Some(JitterSpec { variation: Some(Fraction::new(v)), ..JitterSpec::default() }); }
    if let (Some(f), Some(LinkName::Named(name))) = (env("PCIE"), spec.cluster.intra_node_link.clone()) && alg != AlgorithmName::Nccl {
        let link = Catalogue::shipped().link(&name).unwrap();
        let b = (link.bandwidth.bytes_per_s() as f64 / f) as u64;
        spec.cluster.intra_node_link = Some(LinkName::Given(Link { latency: link.latency.unwrap(), bandwidth: Bandwidth::from_bytes_per_s(b) }));
    }
    if let Some(LinkName::Named(name)) = spec.cluster.inter_node_link.clone() && alg != AlgorithmName::Nccl {
        let link = Catalogue::shipped().link(&name).unwrap();
        let lat = env("LAT").map_or(link.latency.unwrap_or(SimDuration::from_seconds(14e-6)), |l| SimDuration::from_seconds(l*1e-6));
        spec.cluster.inter_node_link = Some(LinkName::Given(Link { latency: lat, bandwidth: link.bandwidth }));
    }
    spec.simulation = SimulationSpec { steps: Some(env("STEPS").unwrap_or(4.0) as u32), warmup_steps: Some(2), seed: None };
    Ok(spec)
}
fn rate(spec: &ScenarioSpec) -> Result<f64, String> {
    let mut case = resolve(spec).map_err(|e| e.to_string())?;
    copies(&mut case, spec);
    Ok(case.global_batch as f64 / case.mean_step_s(Engine::Arrays).map_err(|e| e.to_string())?)
}
fn copies(case: &mut Case, spec: &ScenarioSpec) {
    let Some(us) = env("COPY") else { return };
    if spec.fusion.rule == Some(FusionRule::Tensor) || case.accelerators == 1 { return }
    let gs = gradients(&case.model, &case.compute, case.wire_element_bytes);
    let mut by = BTreeMap::<String, f64>::new();
    for g in gs { *by.entry(g.node).or_default() += us*1e-6 + 2.0*g.bytes.get() as f64/900e9; }
    let nodes: Vec<String> = case.model.nodes().iter().map(|n| n.name.clone()).collect();
    for (n, l) in nodes.iter().zip(&mut case.compute.layers) { if let Some(s) = by.get(n) { l.backward += SimDuration::from_seconds(*s); } }
    case.packing = Packing::Copy(Bandwidth::from_bytes_per_s(u64::MAX));
    let _ = Bytes::ZERO;
}
fn with(spec: &ScenarioSpec, b: f64) -> ScenarioSpec {
    let mut s = spec.clone();
    if let Some(LinkName::Given(l)) = &mut s.cluster.inter_node_link { l.bandwidth = Bandwidth::from_bytes_per_s(b as u64); }
    s
}
pub fn predict(run: &FusionRun, anchor: &FusionRun, na: Option<&FusionRun>) -> Result<(f64, Option<f64>), String> {
    let mut s = spec(run, anchor)?;
    let mut eff = None;
    if let (Some(na), Some(LinkName::Given(_))) = (na, &s.cluster.inter_node_link) {
        let ns = spec(na, anchor)?;
        let (mut lo, mut hi) = (1e6f64, 1e12f64);
        let t = na.images_per_s.unwrap();
        for _ in 0..60 { let m = (lo*hi).sqrt(); if rate(&with(&ns, m))? < t { lo = m } else { hi = m } }
        eff = Some(lo);
        s = with(&s, lo);
    }
    Ok((rate(&s)?, eff))
}
