//! Paths of the admin socket with parameters, and answers that come in pages.

use form_urlencoded::Serializer;

/// A path with those of the parameters that have a value.
pub(super) fn query<'a>(
    path: &str,
    parameters: impl IntoIterator<Item = (&'a str, Option<String>)>,
) -> String {
    let mut query = Serializer::new(String::new());
    for (name, value) in parameters {
        if let Some(value) = value {
            query.append_pair(name, &value);
        }
    }
    match query.finish() {
        query if query.is_empty() => path.to_owned(),
        query => format!("{path}?{query}"),
    }
}

/// All pages: `page` asks for the one behind a place, and says what that has and where the next one begins.
pub(super) fn pages<T>(
    mut page: impl FnMut(Option<String>) -> anyhow::Result<(Vec<T>, Option<String>)>,
) -> anyhow::Result<Vec<T>> {
    let (mut all, mut next) = page(None)?;
    while next.is_some() {
        let (more, after) = page(next)?;
        all.extend(more);
        next = after;
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_written_so_that_they_are_read_as_they_were() {
        assert_eq!(query("/v1/x", [("a", None)]), "/v1/x");
        let path = query(
            "/v1/x",
            [("pod", Some("shop/w&b=1".to_owned())), ("no", None), ("n", Some("7".to_owned()))],
        );
        assert_eq!(path, "/v1/x?pod=shop%2Fw%26b%3D1&n=7");
    }

    #[test]
    fn pages_follow_each_other_until_the_last() {
        let mut asked = Vec::new();
        let all = pages(|after| {
            asked.push(after.clone());
            Ok(match after.as_deref() {
                None => (vec![1, 2], Some("2".to_owned())),
                Some(_) => (vec![3], None),
            })
        });
        assert_eq!(all.unwrap(), [1, 2, 3]);
        assert_eq!(asked, [None, Some("2".to_owned())]);
    }
}
