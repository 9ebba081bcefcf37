//! What NCCL takes links to carry, and which links of the catalogue they are.
//!
//! From NCCL (<https://github.com/NVIDIA/nccl>, 2026, commit 069a3d4): `src/graph/topo.h`
//! (`SM70_NVLINK_BW` and its like, `SKL_QPI_BW` and its like, `ncclTopoNVLinkBw`) and `src/graph/topo.cc`
//! (`kvDictPciGen`, `ncclTopoAddPci`, `ncclTopoGetInterCpuBw`, `ncclTopoAddCpu`).

use foretrain_sim::catalogue::Catalogue;
use foretrain_sim::units::{Bandwidth, SimDuration};

/// NCCL's `LOC_BW`, in MB/s: so much that nothing waits for it.
pub(super) const UNLIMITED: Bandwidth = mb_per_s(5_000_000);

/// Generations of PCIe: GT/s, the value of `kvDictPciGen` (100 Mbit/s of a lane), and the catalogue's
/// name for it.
const PCIE: [(f64, u64, &str); 6] = [
    (2.5, 15, "pcie1"),
    (5.0, 30, "pcie2"),
    (8.0, 60, "pcie3"),
    (16.0, 120, "pcie4"),
    (32.0, 240, "pcie5"),
    (64.0, 480, "pcie6"),
];

/// What NCCL takes a link to be whose speed or width is not known.
pub(super) const PCIE_UNKNOWN: (f64, u32) = (8.0, 16);

const fn mb_per_s(mb_per_s: u64) -> Bandwidth {
    Bandwidth::from_bytes_per_s(mb_per_s * 1_000_000)
}

/// One NVLink, one way.
pub(super) fn nvlink(sm: u32) -> Bandwidth {
    mb_per_s(match sm {
        100.. => 40_100,
        90..=99 => 20_600,
        86 => 12_000,
        60..=69 => 18_000,
        _ => 20_000,
    })
}

/// A PCIe link: lanes x speed / 80 GB/s. None where the speed is of no generation.
pub(super) fn pcie(giga_transfers_per_s: f64, lanes: u32) -> Option<Bandwidth> {
    let (_, speed, _) = PCIE.into_iter().find(|(rate, ..)| *rate == giga_transfers_per_s)?;
    Some(Bandwidth::from_bytes_per_s(u64::from(lanes) * speed * 12_500_000))
}

/// What a CPU is, for NCCL.
#[derive(Debug, Clone, Copy)]
pub(super) struct CpuKind<'a> {
    pub(super) arch: &'a str,
    pub(super) vendor: &'a str,
    pub(super) family: u32,
    pub(super) model: u32,
}

impl CpuKind<'_> {
    pub(super) fn is_intel(self) -> bool {
        self.arch == "x86_64" && self.vendor == "GenuineIntel"
    }

    /// Between two of them, one way; none where NCCL knows no limit.
    pub(super) fn to_others(self) -> Option<Bandwidth> {
        let Self { arch, vendor, family, model } = self;
        Some(mb_per_s(match (arch, vendor) {
            ("ppc64", _) => 32_000,
            ("arm64", _) => 6_000,
            ("x86_64", "GenuineIntel") => match (family, model) {
                // Emerald Rapids, and what is newer by date though not by number.
                (6, 0xCF.. | 0xAD | 0xAE | 0xAF) => 40_000,
                (6, 0x8F..) => 22_000,
                (6, 0x55..) => 10_000,
                _ => 6_000,
            },
            // The larger numbers are those of earlier versions for the same families.
            ("x86_64", "AuthenticAMD") => match family {
                26 | 0xBF => 32_000,
                25 | 0xAF => 24_000,
                _ => 16_000,
            },
            ("x86_64", "CentaurHauls" | "  Shanghai  ") => match (family, model) {
                (7, 0x5B) => 9_000,
                _ => 6_000,
            },
            _ => return None,
        }))
    }
}

/// The catalogue's name of a link, and its latency.
pub(super) type Known = (&'static str, SimDuration);

fn known(name: &str) -> Option<Known> {
    let link = Catalogue::shipped().link(name)?;
    Some((link.name.as_str(), link.latency?))
}

/// The NVLinks of accelerators of this compute capability; as many as `links`, if it matters.
pub(super) fn known_nvlink(sm: u32, switched: bool, links: Option<u32>) -> Option<Known> {
    let names = match sm {
        60 => ["nvlink1-cube-mesh"; 2],
        70 => ["nvlink2-nvswitch", "nvlink2-cube-mesh"],
        80 => ["nvlink3-nvswitch", "nvlink3-mesh"],
        90 => ["nvlink4-nvswitch"; 2],
        100 => ["nvlink5-nvswitch"; 2],
        _ => return None,
    };
    let fits = |name: &&str| {
        let nvlink = Catalogue::shipped().link(name).and_then(|link| link.nvlink);
        let same = |links| nvlink.is_some_and(|n| n.links == links && n.switched == switched);
        links.is_none_or(same)
    };
    known(names.into_iter().find(fits)?)
}

/// A PCIe link of the catalogue.
pub(super) fn known_pcie(giga_transfers_per_s: f64, lanes: u32) -> Option<Known> {
    let (_, _, generation) = PCIE.into_iter().find(|(rate, ..)| *rate == giga_transfers_per_s)?;
    known(&format!("{generation}-x{lanes}"))
}

/// An interface of the catalogue, by speed, PCI class and name. Verbs devices on Ethernet, whose
/// names NCCL takes from the driver, speak RoCE; sockets have the names of interfaces.
pub(super) fn known_nic(bandwidth: Bandwidth, is_infiniband: bool, name: &str) -> Option<Known> {
    let is_roce = ["mlx", "roce", "bnxt_re"].iter().any(|start| name.starts_with(start));
    known(match (is_infiniband, bandwidth.bytes_per_s() * 8 / 1_000_000_000) {
        (true, 54..=56) => "infiniband-fdr",
        (true, 100) => "infiniband-edr",
        (true, 200) => "infiniband-hdr",
        (true, 400) => "infiniband-ndr",
        (false, 100) if is_roce => "roce-100g",
        (false, 10) if !is_roce => "ethernet-10g",
        (false, 25) if !is_roce => "ethernet-25g",
        (false, 50) if !is_roce => "ethernet-50g",
        (false, 100) => "ethernet-100g",
        _ => return None,
    })
}

/// The catalogue's name of an accelerator, by its PCI device number (<https://pci-ids.ucw.cz/read/PC/10de>).
pub(super) fn accelerator(device: u32) -> Option<&'static str> {
    Some(match device {
        0x102d => "k80",
        0x17fd => "m40",
        0x1b38 => "p40",
        0x15f8 => "p100-pcie-16gb",
        0x15f9 => "p100-sxm2-16gb",
        0x1db1 => "v100-sxm2-16gb",
        0x1db4 => "v100-pcie-16gb",
        0x1db5 => "v100-sxm2-32gb",
        0x1db6 => "v100-pcie-32gb",
        0x1db8 => "v100-sxm3-32gb",
        0x20b0 => "a100-sxm4-40gb",
        0x20b2 => "a100-sxm4-80gb",
        0x20b5 => "a100-pcie-80gb",
        0x20f1 => "a100-pcie-40gb",
        0x2330 => "h100-sxm5-80gb",
        0x2331 => "h100-pcie-80gb",
        0x2335 => "h200-sxm5-141gb",
        0x2901 => "b200-sxm-180gb",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bandwidths_are_those_of_nccl() {
        assert_eq!(pcie(8.0, 16), Some(mb_per_s(12_000)));
        assert_eq!(pcie(16.0, 16), Some(mb_per_s(24_000)));
        assert_eq!(pcie(16.0, 8), Some(mb_per_s(12_000)));
        assert_eq!(pcie(2.5, 1), Some(Bandwidth::from_bytes_per_s(187_500_000)));
        assert_eq!(pcie(7.0, 16), None);
        assert_eq!(nvlink(70), mb_per_s(20_000));
        assert_eq!(nvlink(100), mb_per_s(40_100));
        let cpu = |arch, vendor, family, model| {
            CpuKind { arch, vendor, family, model }
                .to_others()
                .map(|b| b.bytes_per_s() / 1_000_000_000)
        };
        // Xeon E5-2698 v4, Platinum 8168, 8480C, 8570, 6980P; EPYC 7742, 9654, 9965; Grace; unknown.
        assert_eq!(cpu("x86_64", "GenuineIntel", 6, 79), Some(6));
        assert_eq!(cpu("x86_64", "GenuineIntel", 6, 85), Some(10));
        assert_eq!(cpu("x86_64", "GenuineIntel", 6, 143), Some(22));
        assert_eq!(cpu("x86_64", "GenuineIntel", 6, 207), Some(40));
        assert_eq!(cpu("x86_64", "GenuineIntel", 6, 173), Some(40));
        assert_eq!(cpu("x86_64", "AuthenticAMD", 143, 49), Some(16));
        assert_eq!(cpu("x86_64", "AuthenticAMD", 25, 17), Some(24));
        assert_eq!(cpu("x86_64", "AuthenticAMD", 26, 17), Some(32));
        assert_eq!(cpu("arm64", "", 0, 0), Some(6));
        assert_eq!(cpu("riscv", "", 0, 0), None);
    }

    #[test]
    fn every_name_is_of_the_catalogue() {
        for device in 0..=0xffff {
            let name = accelerator(device);
            assert!(name.is_none_or(|name| Catalogue::shipped().accelerator(name).is_some()));
        }
        for sm in [60, 70, 80, 90, 100] {
            assert!(known_nvlink(sm, true, None).is_some(), "{sm}");
        }
        assert_eq!(known_nvlink(80, false, Some(12)).map(|(name, _)| name), Some("nvlink3-mesh"));
        assert_eq!(known_nvlink(80, true, Some(10)), None);
        let name = |gbit: u64, infiniband, name| {
            let bandwidth = Bandwidth::from_bytes_per_s(gbit * 125_000_000);
            known_nic(bandwidth, infiniband, name).map(|(name, _)| name)
        };
        assert_eq!(name(200, true, "mlx5_0"), Some("infiniband-hdr"));
        assert_eq!(name(100, false, "mlx5_0"), Some("roce-100g"));
        assert_eq!(name(100, false, "eth0"), Some("ethernet-100g"));
        assert_eq!(name(40, false, "eth0"), None);
    }
}
