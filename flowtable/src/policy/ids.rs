//! Numbers by which the parts of policy refer to each other.

use std::fmt;

macro_rules! ids {
    ($($(#[$meta:meta])* $name:ident;)*) => {$(
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub u32);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    )*};
}

ids! {
    /// Everyone whom all selectors treat alike. The highest number is nobody's; a number that was somebody's is given to
    /// nobody else while anything refers to it.
    IdentityId;
    /// A pod that is served here.
    EndpointId;
    /// An [`AddressSet`](crate::AddressSet).
    SetId;
    /// A [`PortSet`](crate::PortSet).
    PortSetId;
    /// A [`Segment`](crate::Segment).
    SegmentId;
    /// A [`Program`](crate::Program), or [`ProgramId::NONE`].
    ProgramId;
    /// A rule, or the end of a policy or tier, as it is counted.
    RuleId;
}

impl ProgramId {
    /// No policy selects the end: its profiles allow.
    pub const NONE: Self = Self(u32::MAX);
}

impl RuleId {
    /// No rule decided: no policy selects the end, or the dataplane's own rules did.
    pub const NONE: Self = Self(u32::MAX);
}
