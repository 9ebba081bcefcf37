//! Published rates of one accelerator against its batch: what kernels lose at small batches.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use foretrain_sim::catalogue::{Accelerator, Catalogue};
use foretrain_sim::compute::{Anchor, Kernels, Optimizer, Precision, Roofline};
use foretrain_sim::units::{ImageRate, SimDuration};
use foretrain_sim::workload::NetworkName;

use super::scaling::Shared;
use super::table::{Problem, Table};

/// Fewer batches say nothing about a shape.
const BATCHES_MIN: usize = 3;

/// Rates of ResNet-50 on one accelerator, from one source and in one precision.
#[derive(Debug, Clone, PartialEq)]
pub struct RateTable {
    /// Where it is from.
    pub source: String,
    /// The accelerator, in the catalogue.
    pub accelerator: &'static Accelerator,
    /// What it computed in.
    pub precision: Precision,
    /// Images a step, and images a second, by increasing batch.
    pub rates: Vec<(u64, f64)>,
}

impl RateTable {
    /// The columns that are read.
    pub const COLUMNS: [&'static str; 9] = [
        "source",
        "model",
        "quantity",
        "value",
        "accelerator",
        "accelerators",
        "per_accelerator_batch",
        "precision",
        "confidence",
    ];

    /// Those that come with this version.
    #[must_use]
    pub fn shipped() -> &'static [Self] {
        static SHIPPED: LazyLock<Vec<RateTable>> = LazyLock::new(|| {
            let text = include_str!("../../../scenarios/published/records.csv");
            let tables = Table::read(text).and_then(|table| RateTable::read_all(&table));
            #[expect(clippy::expect_used, reason = "a test reads the shipped file")]
            tables.expect("the shipped file is well-formed")
        });
        &SHIPPED
    }

    /// All tables of at least three batches whose accelerator is in the catalogue.
    ///
    /// # Errors
    /// A cell is not what its column needs.
    pub fn read_all(table: &Table) -> Result<Vec<Self>, Problem> {
        let missing = table.missing(&Self::COLUMNS);
        if !missing.is_empty() {
            let text = format!("columns {} missing from a file of records", missing.join(", "));
            return Err(Problem { line: 1, text });
        }
        let mut found: BTreeMap<(String, String, String), BTreeMap<u64, f64>> = BTreeMap::new();
        for cells in table.rows() {
            let is_rate = cells.text("quantity") == "throughput"
                && cells.text("model") == "resnet50"
                && cells.count("accelerators")? == Some(1)
                && cells.text("confidence") != "unconfirmed";
            let batch = cells.quantity("per_accelerator_batch")?.filter(|_| is_rate);
            if let Some((batch, rate)) = batch.zip(cells.quantity("value")?) {
                let key =
                    ["source", "accelerator", "precision"].map(|name| cells.text(name).into());
                let [source, accelerator, precision] = key;
                found
                    .entry((source, accelerator, precision))
                    .or_default()
                    .insert(batch.round() as u64, rate);
            }
        }
        let tables = found.into_iter().filter(|(_, rates)| rates.len() >= BATCHES_MIN);
        Ok(tables
            .filter_map(|((source, accelerator, precision), rates)| {
                Some(Self {
                    source,
                    accelerator: named(&accelerator)?,
                    precision: match precision.as_str() {
                        "fp32" => Precision::Fp32,
                        "tf32" => Precision::Tf32,
                        "fp16-mixed" => Precision::Fp16Mixed,
                        _ => return None,
                    },
                    rates: rates.into_iter().collect(),
                })
            })
            .collect())
    }

    /// The predicted over the published rate of each batch but the largest, from that of the largest:
    /// every operation a kernel of its own, started one by one. None where launches alone take longer.
    #[must_use]
    pub fn ratios(&self, shared: &Shared) -> Option<Vec<f64>> {
        let ((largest, rate), others) = self.rates.split_last()?;
        let network = NetworkName::Resnet50.network();
        let launch = SimDuration::from_seconds(shared.eager_kernel_s);
        let roofline = Roofline::new(self.accelerator, self.precision, Optimizer::Momentum)?
            .with_kernels(Kernels::Separate, launch);
        let factor = roofline.factor(&network, Anchor::of_one(ImageRate::new(*rate), *largest))?;
        let ratio = |&(batch, rate): &(u64, f64)| {
            batch as f64 / roofline.times(&network, batch, factor).step().as_seconds() / rate
        };
        Some(others.iter().map(ratio).collect())
    }
}

/// `Tesla V100 (p3.2xlarge)` and the like: the first of the catalogue with that name.
fn named(published: &str) -> Option<&'static Accelerator> {
    let name = published.split(['(', ',']).next()?.trim().to_ascii_lowercase();
    let name = name.strip_prefix("tesla ").unwrap_or(&name).replace(' ', "-");
    let catalogue = Catalogue::shipped();
    let names = catalogue.accelerator_names();
    let begins = |known: &&&str| {
        known
            .strip_prefix(name.as_str())
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
    };
    catalogue.accelerator(names.iter().find(begins)?)
}
