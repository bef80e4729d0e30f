//! Operating system and architecture: what this node runs, and which images fit.

use std::fmt;

/// A platform as image indexes name it, in Go's words (`linux/amd64`, `linux/arm/v7`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Platform {
    /// Operating system, `linux`.
    pub os: String,
    /// Architecture: `amd64`, `arm64`, …
    pub architecture: String,
    /// Variant of the architecture (`v7`), empty when there is none to tell apart.
    pub variant: String,
}

impl Platform {
    /// The platform this program was built for.
    #[must_use]
    pub fn current() -> Self {
        let (architecture, variant) = match std::env::consts::ARCH {
            "x86_64" => ("amd64", ""),
            "x86" => ("386", ""),
            "aarch64" => ("arm64", "v8"),
            "arm" => ("arm", "v7"),
            "powerpc64" => ("ppc64le", ""),
            "loongarch64" => ("loong64", ""),
            // The remaining names (riscv64, s390x) are the same in both vocabularies.
            same => (same, ""),
        };
        Self {
            os: "linux".to_owned(),
            architecture: architecture.to_owned(),
            variant: variant.to_owned(),
        }
    }

    /// How well an image for `other` runs on this platform: `None` not at all, else higher is
    /// better.
    ///
    /// An image that does not say what it is for (old archives) is taken to fit, as Docker does.
    #[must_use]
    pub fn fit(&self, other: &Self) -> Option<u32> {
        let same = |mine: &str, theirs: &str| theirs.is_empty() || mine == theirs;
        if !same(&self.os, &other.os) || !same(&self.architecture, &other.architecture) {
            return None;
        }
        let wanted = level(&self.architecture, &self.variant)?;
        let offered = level(&self.architecture, &other.variant)?;
        (offered <= wanted).then_some(offered)
    }
}

/// The variant as a number, each running all programs of the lower ones; none is the baseline.
fn level(architecture: &str, variant: &str) -> Option<u32> {
    let baseline = match architecture {
        "arm64" => 8,
        // Without a variant, an arm image is for the newest of them (containerd's rule).
        "arm" => 7,
        _other => 1,
    };
    if variant.is_empty() {
        return Some(baseline);
    }
    variant.strip_prefix('v')?.parse().ok()
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named = |text: &str| if text.is_empty() { "?" } else { text }.to_owned();
        write!(f, "{}/{}", named(&self.os), named(&self.architecture))?;
        if self.variant.is_empty() {
            Ok(())
        } else {
            write!(f, "/{}", self.variant)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn platform(text: &str) -> Platform {
        let mut parts = text.split('/').map(str::to_owned);
        let mut next = || parts.next().unwrap_or_default();
        Platform {
            os: next(),
            architecture: next(),
            variant: next(),
        }
    }

    #[test]
    fn images_fit_their_own_platform_and_older_variants() {
        let table = [
            ("linux/amd64", "linux/amd64", Some(1)),
            ("linux/amd64", "linux/amd64/v1", Some(1)),
            ("linux/amd64", "linux/amd64/v3", None),
            ("linux/amd64/v3", "linux/amd64/v2", Some(2)),
            ("linux/amd64", "linux/arm64", None),
            ("linux/amd64", "windows/amd64", None),
            ("linux/amd64", "unknown/unknown", None),
            ("linux/amd64", "", Some(1)),
            ("linux/arm64/v8", "linux/arm64", Some(8)),
            ("linux/arm64/v8", "linux/arm64/v8", Some(8)),
            ("linux/arm/v7", "linux/arm/v6", Some(6)),
            ("linux/arm/v6", "linux/arm/v7", None),
        ];
        for (mine, theirs, expected) in table {
            assert_eq!(
                platform(mine).fit(&platform(theirs)),
                expected,
                "{mine} {theirs}"
            );
        }
    }
}
