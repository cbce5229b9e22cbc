//! Which instructions the hot steps use: chosen once, when a table is made.

/// An instruction set that this processor has: there is no way to have another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Isa(pub(crate) Set);

/// The portable set is the meaning; the others are checked against it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Set {
    /// What every processor has.
    Portable,
    /// x86-64 with AVX2, BMI1 and AES.
    #[cfg(all(target_arch = "x86_64", not(any(loom, miri))))]
    Avx2,
}

impl Isa {
    pub const PORTABLE: Self = Self(Set::Portable);

    /// The widest that this processor has.
    pub fn best() -> Self {
        #[cfg(all(target_arch = "x86_64", not(any(loom, miri))))]
        if is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("bmi1")
            && is_x86_feature_detected!("aes")
        {
            return Self(Set::Avx2);
        }
        Self::PORTABLE
    }

    /// As results name it.
    pub fn name(self) -> &'static str {
        match self.0 {
            Set::Portable => "portable",
            #[cfg(all(target_arch = "x86_64", not(any(loom, miri))))]
            Set::Avx2 => "avx2",
        }
    }
}
