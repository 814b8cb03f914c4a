//! Drivers with documented faults: an adapter goes in, what is not used on it comes
//! out, with the reason and its source.
//!
//! Only what the self-test cannot find has a place here: a driver that ends the process, hangs the device, or lies
//! about what it offers. A kernel that computes wrongly is found on the device and refused there.

use std::fmt;

/// What can be switched off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DriverFeature {
    /// Cooperative matrices.
    TensorCores,
    /// The device's clock; times are then the host's.
    Clock,
}

impl fmt::Display for DriverFeature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TensorCores => "tensor cores",
            Self::Clock => "timestamps",
        })
    }
}

/// An adapter as its driver describes it.
#[derive(Clone, Copy, Debug)]
pub struct DriverCard<'a> {
    /// PCI number of who made it.
    pub vendor: u32,
    /// `Vulkan`, `Metal` or `DX12`.
    pub interface: &'a str,
    /// The driver's name and version.
    pub driver: &'a str,
    /// The card's name.
    pub name: &'a str,
}

/// A documented fault. An empty pattern fits everything.
#[derive(Debug)]
pub struct DriverFault {
    vendor: Option<u32>,
    interface: &'static str,
    /// What the driver's name begins with, one of them.
    drivers: &'static [&'static str],
    /// What the card's name contains, one of them.
    names: &'static [&'static str],
    /// What is not used.
    pub off: DriverFeature,
    /// Why.
    pub why: &'static str,
    /// Where that is documented.
    pub source: &'static str,
}

const AMD: u32 = 0x1002;
const INTEL: u32 = 0x8086;

/// The table. Added to only with a public source.
const FAULTS: [DriverFault; 4] = [
    DriverFault {
        vendor: Some(INTEL),
        interface: "Vulkan",
        drivers: &[],
        names: &[],
        off: DriverFeature::TensorCores,
        why: "Intel's drivers emulate the shapes that wgpu can name, and lose the device on some cards",
        source: "https://github.com/ggml-org/llama.cpp/pull/24404, \
                 https://github.com/IGCIT/Intel-GPU-Community-Issue-Tracker-IGCIT/issues/1487",
    },
    DriverFault {
        vendor: Some(AMD),
        interface: "Vulkan",
        drivers: &["AMD proprietary", "AMD open-source"],
        // Everything before RDNA3.
        names: &["RX 4", "RX 5", "RX 6", "Vega", "VII", "Pro W5", "Pro W6", " 610M", " 660M", " 680M"],
        off: DriverFeature::TensorCores,
        why: "AMD's own drivers list matrices for cards that have no hardware for them",
        source: "https://github.com/ggml-org/llama.cpp/pull/11074",
    },
    DriverFault {
        vendor: None,
        interface: "Vulkan",
        drivers: &["llvmpipe"],
        names: &[],
        off: DriverFeature::TensorCores,
        why: "LLVM ends the process while it compiles them",
        source: "https://github.com/gfx-rs/wgpu/issues/9903",
    },
    DriverFault {
        vendor: None,
        interface: "Metal",
        drivers: &[],
        names: &[],
        off: DriverFeature::Clock,
        why: "timestamps of macOS 26 are read back as zeros",
        source: "https://github.com/gfx-rs/wgpu/issues/9414",
    },
];

impl DriverFault {
    fn fits(&self, card: &DriverCard<'_>) -> bool {
        self.vendor.is_none_or(|v| v == card.vendor)
            && (self.interface.is_empty() || self.interface == card.interface)
            && (self.drivers.is_empty() || self.drivers.iter().any(|d| card.driver.starts_with(d)))
            && (self.names.is_empty() || self.names.iter().any(|n| card.name.contains(n)))
    }
}

/// The faults of an adapter.
pub fn known(card: &DriverCard<'_>) -> impl Iterator<Item = &'static DriverFault> {
    FAULTS.iter().filter(|f| f.fits(card))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn off(vendor: u32, interface: &str, driver: &str, name: &str) -> Vec<DriverFeature> {
        known(&DriverCard { vendor, interface, driver, name }).map(|f| f.off).collect()
    }

    #[test]
    fn faults_are_found_by_maker_driver_and_name() {
        let tensor = vec![DriverFeature::TensorCores];
        assert_eq!(off(INTEL, "Vulkan", "Intel Corporation 101.8826", "Intel(R) Arc(TM) Pro B70 Graphics"), tensor);
        assert_eq!(off(INTEL, "Vulkan", "Intel open-source Mesa driver", "Intel(R) Arc(tm) A770 (DG2)"), tensor);
        assert_eq!(off(AMD, "Vulkan", "AMD proprietary driver 25.8.1", "AMD Radeon RX 6800 XT"), tensor);
        assert_eq!(off(0x10005, "Vulkan", "llvmpipe Mesa 26.0.1", "llvmpipe (LLVM 20.1.8, 256 bits)"), tensor);
        assert_eq!(off(0, "Metal", "", "Apple M4 Max"), [DriverFeature::Clock]);
    }

    #[test]
    fn other_cards_of_the_same_maker_keep_everything() {
        let none: Vec<DriverFeature> = Vec::new();
        assert_eq!(off(0x10de, "Vulkan", "NVIDIA 580.95", "NVIDIA H100 80GB HBM3"), none);
        assert_eq!(off(AMD, "Vulkan", "AMD proprietary driver 25.8.1", "AMD Radeon RX 7900 XTX"), none);
        assert_eq!(off(AMD, "Vulkan", "AMD proprietary driver 25.8.1", "AMD Radeon RX 9060 XT"), none);
        assert_eq!(off(AMD, "Vulkan", "radv Mesa 25.2", "AMD Radeon RX 6800 XT (RADV NAVI21)"), none);
        assert_eq!(off(INTEL, "DX12", "32.0.101.8826", "Intel(R) Arc(TM) A770 Graphics"), none);
    }

    #[test]
    fn every_fault_has_a_public_source() {
        for f in &FAULTS {
            let links: Vec<&str> = f.source.split(", ").collect();
            assert!(links.iter().all(|s| s.starts_with("https://github.com/")) && !f.why.is_empty(), "{f:?}");
        }
    }
}
