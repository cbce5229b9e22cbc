//! Which instructions the hot steps use: chosen once, when a table is made.

/// An instruction set. The portable one is the meaning; the others are checked against it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isa {
    /// What every processor has.
    Portable,
    /// x86-64 with AVX2, BMI1 and AES.
    #[cfg(all(target_arch = "x86_64", not(any(loom, miri))))]
    Avx2,
}

impl Isa {
    /// The widest that this processor has.
    pub fn best() -> Self {
        #[cfg(all(target_arch = "x86_64", not(any(loom, miri))))]
        if is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("bmi1")
            && is_x86_feature_detected!("aes")
        {
            return Self::Avx2;
        }
        Self::Portable
    }

    /// As results name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Portable => "portable",
            #[cfg(all(target_arch = "x86_64", not(any(loom, miri))))]
            Self::Avx2 => "avx2",
        }
    }
}
