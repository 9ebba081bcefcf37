//! From text to checked points: parsing, merging of variants, and errors with their place.
//!
//! Variants are merged over the base as parsed values that remember where they stand in the text,
//! so an error in a merged key points to the line that gave it.

use sha2::{Digest, Sha256};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::problem::{Problem, unknown};
use super::space::{Goals, Offer, Space};
use super::spec::{PublishedSpec, ScenarioSpec};
use super::{Overrides, Profiles, Scenario, ScenarioError, sweep};
use crate::located::Document;
use crate::profile::Profile;

pub(super) fn read(
    text: &str,
    overrides: Overrides,
    profiles: &Profiles<'_>,
) -> Result<Scenario, ScenarioError> {
    let whole = Whole::read(text, profiles)?;
    let mut cases = Vec::new();
    for Part { variant, document, spec, profile } in &whole.parts {
        let resolved = sweep::cases(spec, variant.as_deref(), overrides, profile.as_ref())
            .map_err(|problem| document.located(problem))?;
        cases.extend(resolved);
    }
    check_published(&whole.document, &whole.base.published, &whole.variants)?;
    Ok(Scenario {
        name: whole.base.name,
        source: whole.base.source,
        hash: text_hash(text),
        profile_hashes: whole.profile_hashes,
        cases,
        published: whole.base.published,
    })
}

/// The offers of a scenario to choose from, none of which is simulated yet.
pub(super) fn read_space(
    text: &str,
    overrides: Overrides,
    profiles: &Profiles<'_>,
) -> Result<Space, ScenarioError> {
    let whole = Whole::read(text, profiles)?;
    let mut offers = Vec::new();
    for Part { variant, document, spec, profile } in whole.parts {
        let offer = Offer::new(spec, variant, overrides, profile);
        offers.push(offer.map_err(|problem| document.located(problem))?);
    }
    let goals = Goals::new(whole.base.plan.as_ref(), &offers);
    Ok(Space {
        name: whole.base.name,
        source: whole.base.source,
        hash: text_hash(text),
        profile_hashes: whole.profile_hashes,
        goals: goals.map_err(|problem| whole.document.located(problem))?,
        offers,
    })
}

/// A text with its variants merged over the base.
struct Whole<'a> {
    document: Document<'a>,
    base: ScenarioSpec,
    variants: Variants<'a>,
    parts: Vec<Part<'a>>,
    profile_hashes: Vec<String>,
}

/// A variant, or the base where there are none.
struct Part<'a> {
    variant: Option<String>,
    document: Document<'a>,
    spec: ScenarioSpec,
    profile: Option<Profile>,
}

impl<'a> Whole<'a> {
    fn read(text: &'a str, profiles: &Profiles<'_>) -> Result<Self, ScenarioError> {
        let mut document = Document::parse(text)?;
        let variants = take_variants(&mut document)?;
        // Keys are checked in the base even where a variant replaces them.
        let base: ScenarioSpec = document.read()?;
        let names = variants.iter().map(|(name, _)| name).chain([&base.name]);
        if names.into_iter().any(|name| name.chars().any(char::is_control)) {
            let problem = "expected names without control characters".to_owned();
            return Err(document.error_at(0, Some("name".to_owned()), problem));
        }
        let documents = match variants.as_slice() {
            [] => vec![(None, document.clone())],
            some => some
                .iter()
                .map(|(name, table)| {
                    (Some(name.clone()), document.with_root(merged(&document.root, table)))
                })
                .collect(),
        };
        let mut profile_hashes = Vec::new();
        let mut parts = Vec::new();
        for (variant, document) in documents {
            let spec: ScenarioSpec = document.read()?;
            let profile = match &spec.profile {
                None => None,
                Some(name) => Some(
                    profiles(name)
                        .map_err(|problem| document.located(Problem::new("profile", problem)))?,
                ),
            };
            if let Some(profile) = &profile
                && !profile_hashes.contains(&profile.hash)
            {
                profile_hashes.push(profile.hash.clone());
            }
            let profile = profile.map(|named| named.profile);
            parts.push(Part { variant, document, spec, profile });
        }
        Ok(Self { document, base, variants, parts, profile_hashes })
    }
}

pub(super) fn read_spec(text: &str) -> Result<ScenarioSpec, ScenarioError> {
    let mut document = Document::parse(text)?;
    take_variants(&mut document)?;
    document.read()
}

/// The SHA-256 of a scenario's text, in hexadecimal.
#[must_use]
pub fn text_hash(text: &str) -> String {
    Sha256::digest(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

type Variants<'a> = Vec<(String, DeTable<'a>)>;

/// Takes the variants out of the document, and checks their names.
fn take_variants<'a>(document: &mut Document<'a>) -> Result<Variants<'a>, ScenarioError> {
    let root = document.root.get_ref();
    // Read once as written, so that errors in a variant are found where they stand.
    let Some(value) = root.get("variant").cloned() else { return Ok(Vec::new()) };
    let offset = value.span().start;
    let only = Spanned::new(document.root.span(), {
        let mut table = DeTable::new();
        for key in ["name", "variant"] {
            if let Some((key, value)) = root.get_key_value(key) {
                table.insert(key.clone(), value.clone());
            }
        }
        table
    });
    let spec: ScenarioSpec = document.with_root(only).read()?;
    let mut variants = Variants::new();
    if let DeValue::Array(items) = value.into_inner() {
        for (item, spec) in items.into_iter().zip(&spec.variant) {
            if variants.iter().any(|(name, _)| *name == spec.name) {
                let problem = format!("two variants are called `{}`: rename one", spec.name);
                let key = Some("variant".to_owned());
                return Err(document.error_at(item.span().start, key, problem));
            }
            if let DeValue::Table(mut table) = item.into_inner() {
                table.remove("name");
                variants.push((spec.name.clone(), table));
            }
        }
    }
    if variants.is_empty() {
        let problem = "expected at least one variant, or no key `variant`".to_owned();
        return Err(document.error_at(offset, Some("variant".to_owned()), problem));
    }
    document.root.get_mut().remove("variant");
    Ok(variants)
}

fn merged<'a>(base: &Spanned<DeTable<'a>>, over: &DeTable<'a>) -> Spanned<DeTable<'a>> {
    let mut table = base.clone();
    merge(table.get_mut(), over);
    table
}

fn merge<'a>(base: &mut DeTable<'a>, over: &DeTable<'a>) {
    for (key, value) in over {
        let both = (base.get_mut(key.get_ref().as_ref()), value.get_ref());
        if let (Some(there), DeValue::Table(more)) = both
            && let DeValue::Table(there) = there.get_mut()
        {
            merge(there, more);
        } else {
            base.remove(key.get_ref().as_ref());
            base.insert(key.clone(), value.clone());
        }
    }
}

fn check_published(
    document: &Document<'_>,
    published: &[PublishedSpec],
    variants: &Variants<'_>,
) -> Result<(), ScenarioError> {
    for (index, point) in published.iter().enumerate() {
        let given = [
            point.images_per_s.is_some(),
            point.time_to_train.is_some(),
            point.scaling_efficiency.is_some(),
            point.step_time.is_some(),
            point.top1.is_some(),
        ];
        let item =
            document.root.get_ref().get("published").and_then(|all| all.get_ref().get(index));
        let offset = item.map_or(0, |item| item.span().start);
        let error = |problem: String| {
            Err(document.error_at(offset, Some(format!("published[{index}]")), problem))
        };
        if given.iter().filter(|given| **given).count() != 1 {
            let quantities = "images_per_s, time_to_train, scaling_efficiency, step_time, top1";
            return error(format!("expected exactly one of {quantities}"));
        }
        let values = [
            point.images_per_s.map(|rate| rate.get()),
            point.time_to_train.map(|time| time.as_seconds()),
            point.scaling_efficiency.map(|efficiency| efficiency.get()),
            point.step_time.map(|time| time.as_seconds()),
            point.top1.map(|top1| top1.get()),
        ];
        let positive = values.into_iter().flatten().all(|value| value > 0.0);
        if !positive || point.accelerators == 0 || point.relative_to == Some(0) {
            return error("expected values above 0".to_owned());
        }
        if point.relative_to.is_some() && point.scaling_efficiency.is_none() {
            return error("relative_to goes with scaling_efficiency only".to_owned());
        }
        if let Some(wanted) = &point.variant {
            let names: Vec<&str> = variants.iter().map(|(name, _)| name.as_str()).collect();
            if !names.contains(&wanted.as_str()) {
                return error(unknown("variant", wanted, &names));
            }
        }
    }
    Ok(())
}
