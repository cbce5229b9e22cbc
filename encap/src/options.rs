//! Options of the IPv4 header (RFC 791 3.1): whether a router passes them on, and which of them later fragments have.
//!
//! What stands in an option is for those whom it is for: Record Route and Timestamp are passed on as they came.

use crate::parse::ParseError;

/// Types, with the flag that has them copied and the class.
mod kind {
    pub(super) const END: u8 = 0;
    pub(super) const NO_OPERATION: u8 = 1;
    pub(super) const LOOSE_SOURCE_ROUTE: u8 = 131;
    pub(super) const STRICT_SOURCE_ROUTE: u8 = 137;
}
/// Flag of a type: all fragments have the option.
const COPIED: u8 = 0x80;

/// Checks what stands between the fixed part of a header and its end. Lengths have to be such that they can be, and none is a
/// source route (RFC 7126 4.3 and 4.4); all else passes, known or not (RFC 7126 4.23).
pub(crate) fn check(mut options: &[u8]) -> Result<(), ParseError> {
    loop {
        options = match options {
            [] | [kind::END, ..] => return Ok(()),
            [kind::NO_OPERATION, rest @ ..] => rest,
            [kind::LOOSE_SOURCE_ROUTE | kind::STRICT_SOURCE_ROUTE, ..] => {
                return Err(ParseError::SourceRoute);
            }
            [_, len, ..] if *len >= 2 => options.get(usize::from(*len)..).ok_or(ParseError::BadOptions)?,
            _ => return Err(ParseError::BadOptions),
        }
    }
}

/// Leaves of the options of a first fragment those that the others have too. No-operations take the place of the rest, as in
/// Linux: the header stays as long as it is.
pub(crate) fn blank_uncopied(mut options: &mut [u8]) {
    while let [kind, rest @ ..] = &*options
        && *kind != kind::END
    {
        let len = if *kind == kind::NO_OPERATION { 1 } else { rest.first().copied().unwrap_or(0).max(1) };
        let is_copied = kind & COPIED != 0;
        let Some((option, behind)) = options.split_at_mut_checked(len.into()) else { return };
        if !is_copied {
            option.fill(kind::NO_OPERATION);
        }
        options = behind;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_pass_unless_malformed_or_a_source_route() {
        let cases: [(&str, &[u8], Result<(), ParseError>); 16] = [
            ("none", &[], Ok(())),
            ("router alert", &[148, 4, 0, 0], Ok(())),
            ("record route", &[7, 7, 4, 0, 0, 0, 0, 0], Ok(())),
            ("timestamp, full", &[68, 8, 9, 0xf0, 1, 2, 3, 4], Ok(())),
            ("unknown", &[0xde, 3, 9, 1], Ok(())),
            ("the shortest that has a length", &[0x88, 2, 1, 1], Ok(())),
            ("anything behind the end", &[1, 0, 131, 0], Ok(())),
            ("length 0", &[7, 0, 1, 1], Err(ParseError::BadOptions)),
            ("length 1", &[7, 1, 1, 1], Err(ParseError::BadOptions)),
            ("one byte beyond", &[7, 5, 4, 0], Err(ParseError::BadOptions)),
            ("far beyond", &[148, 255, 0, 0], Err(ParseError::BadOptions)),
            ("no length", &[1, 1, 1, 7], Err(ParseError::BadOptions)),
            ("loose source route", &[131, 7, 4, 10, 0, 0, 1, 0], Err(ParseError::SourceRoute)),
            ("strict source route", &[1, 137, 7, 4, 10, 0, 0, 1], Err(ParseError::SourceRoute)),
            ("source route that has come to its end", &[131, 3, 4, 0], Err(ParseError::SourceRoute)),
            ("source route behind another", &[148, 4, 0, 0, 137, 3, 4, 0], Err(ParseError::SourceRoute)),
        ];
        for (name, options, expected) in cases {
            assert_eq!(check(options), expected, "{name}");
        }
    }

    #[test]
    fn later_fragments_have_what_is_copied() {
        let mut options = [7, 7, 4, 0, 0, 0, 0, 148, 4, 0, 0, 1, 0x88, 4, 5, 6, 68, 4, 5, 0, 0, 9, 9, 9];
        blank_uncopied(&mut options);
        assert_eq!(options, [1, 1, 1, 1, 1, 1, 1, 148, 4, 0, 0, 1, 0x88, 4, 5, 6, 1, 1, 1, 1, 0, 9, 9, 9]);
    }
}
