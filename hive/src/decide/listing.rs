//! The files of a repository on the hub, and the choice of one by a reference.

use rbee_schema::{Failure, FailureCode, HubFile};
use serde::Deserialize;

/// Quantization chosen where a reference names no file and there are several: small, and close to the full weights.
const PREFERRED: &str = "Q4_K_M";

/// Largest number of files that a message names.
const NAMED: usize = 20;

/// Contents of a repository at one commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listing {
    /// Commit id.
    pub commit: String,
    /// Files of the commit.
    pub files: Vec<ListedFile>,
}

/// A file of a repository, as the hub lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedFile {
    /// Path in the repository.
    pub path: String,
    /// Size, where the hub lists it.
    pub bytes: Option<u64>,
    /// Digest that the hub lists.
    pub content: Content,
}

/// Digest of a file, as the hub lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// SHA-256 of a file in large file storage (LFS).
    Sha256(String),
    /// Id of the file's git object, which is not a digest of its bytes alone.
    GitObject(String),
    /// No digest: the hub is a mirror that leaves it out.
    Unknown,
}

#[derive(Deserialize)]
struct Info {
    sha: String,
    siblings: Vec<Sibling>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Sibling {
    rfilename: String,
    size: Option<u64>,
    blob_id: Option<String>,
    lfs: Option<LargeFile>,
}

#[derive(Deserialize)]
struct LargeFile {
    sha256: Option<String>,
    size: Option<u64>,
}

impl Listing {
    /// Reads the hub's description of a repository. Digests become parts of paths on this machine, so malformed ones are left
    /// out.
    ///
    /// # Errors
    /// The mistake in the description, for people.
    pub fn read(body: &[u8]) -> Result<Self, String> {
        let info: Info = serde_json::from_slice(body).map_err(|error| error.to_string())?;
        if !is_hexadecimal(&info.sha, 40) {
            return Err(format!("its commit id is `{}`", info.sha.escape_default()));
        }
        Ok(Self { commit: info.sha, files: info.siblings.into_iter().map(ListedFile::from).collect() })
    }

    fn models(&self) -> impl Iterator<Item = &ListedFile> {
        self.files.iter().filter(|file| file.path.to_ascii_lowercase().ends_with(".gguf"))
    }

    /// Names of the model files, for a message.
    pub fn names(&self) -> String {
        let names: Vec<&str> = self.models().map(|file| file.path.as_str()).collect();
        match names.len() {
            0 => "it has no GGUF files".to_owned(),
            count if count <= NAMED => format!("its GGUF files are {}", names.join(", ")),
            count => format!("its GGUF files are {} and {} more", names[..NAMED].join(", "), count - NAMED),
        }
    }
}

impl From<Sibling> for ListedFile {
    fn from(sibling: Sibling) -> Self {
        let Sibling { rfilename, size, blob_id, lfs } = sibling;
        let bytes = lfs.as_ref().and_then(|lfs| lfs.size).or(size);
        let sha256 = lfs.and_then(|lfs| lfs.sha256).filter(|digest| is_hexadecimal(digest, 64));
        let content = match (sha256, blob_id.filter(|id| is_hexadecimal(id, 40))) {
            (Some(digest), _) => Content::Sha256(digest),
            (None, Some(id)) => Content::GitObject(id),
            (None, None) => Content::Unknown,
        };
        Self { path: rfilename, bytes, content }
    }
}

/// True where `text` is a lower-case hexadecimal number with this many digits.
pub fn is_hexadecimal(text: &str, digits: usize) -> bool {
    text.len() == digits && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// Chooses a file: the named one, else the only model, else the only one with the quantization Q4_K_M.
///
/// # Errors
/// `model-missing`, or `invalid-request` where there are several candidates. Both messages list the files.
pub fn choose<'a>(hub_file: &HubFile, listing: &'a Listing) -> Result<&'a ListedFile, Failure> {
    let HubFile { repository, path, .. } = hub_file;
    if let Some(path) = path {
        return listing.files.iter().find(|file| file.path == *path).ok_or_else(|| {
            let names = listing.names();
            missing(format!("there is no {path} in the repository {repository} at {}: {names}", listing.commit))
        });
    }
    let loadable: Vec<&ListedFile> =
        listing.models().filter(|file| is_complete_model(repository, &file.path)).collect();
    let preferred: Vec<&ListedFile> =
        loadable.iter().copied().filter(|file| file.path.to_ascii_uppercase().contains(PREFERRED)).collect();
    match (loadable.as_slice(), preferred.as_slice()) {
        ([only], _) | (_, [only]) => Ok(only),
        ([], _) => {
            Err(missing(format!("there is no single model file in the repository {repository}: {}", listing.names())))
        }
        ([first, ..], _) => Err(Failure::new(
            FailureCode::InvalidRequest,
            format!(
                "hf:{hub_file} may be one of several files, and not exactly one of them is {PREFERRED}: {}; name one, such as \
                 hf:{hub_file}/{}",
                listing.names(),
                first.path
            ),
        )),
    }
}

fn missing(message: String) -> Failure {
    Failure::new(FailureCode::ModelMissing, message)
}

/// True where the file is a complete language model: neither a part of a split one nor an image encoder. Its name must be
/// valid in a reference, because it becomes a path on this machine.
fn is_complete_model(repository: &str, path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path).to_ascii_lowercase();
    let is_split = name
        .trim_end_matches(".gguf")
        .rsplit_once("-of-")
        .is_some_and(|(_, parts)| parts.len() == 5 && parts.bytes().all(|byte| byte.is_ascii_digit()));
    !is_split && !name.starts_with("mmproj") && format!("{repository}/{path}").parse::<HubFile>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listing(paths: &[&str]) -> Listing {
        let file = |path: &&str| ListedFile { path: (*path).to_owned(), bytes: None, content: Content::Unknown };
        Listing { commit: "c".repeat(40), files: paths.iter().map(file).collect() }
    }

    fn check(reference: &str, paths: &[&str], expected: Result<&str, (FailureCode, &str)>) {
        let hub_file: HubFile = reference.parse().expect("a reference");
        let listing = listing(paths);
        match (choose(&hub_file, &listing), expected) {
            (Ok(file), Ok(path)) => assert_eq!(file.path, path, "{reference} of {paths:?}"),
            (Err(failure), Err((code, text))) => {
                assert_eq!(failure.code, code, "{failure}");
                assert!(failure.message.contains(text), "{failure}");
            }
            (found, expected) => panic!("{reference} of {paths:?}: {found:?} instead of {expected:?}"),
        }
    }

    #[test]
    fn named_file_is_chosen_and_a_missing_one_is_answered_with_a_list() {
        check("o/r/b.gguf", &["a.gguf", "b.gguf"], Ok("b.gguf"));
        check("o/r/q/b.gguf", &["a.gguf", "q/b.gguf"], Ok("q/b.gguf"));
        let missing = FailureCode::ModelMissing;
        check("o/r/c.gguf", &["a.gguf", "README.md", "q/b.gguf"], Err((missing, "files are a.gguf, q/b.gguf")));
        check("o/r/c.gguf", &["README.md"], Err((missing, "it has no GGUF files")));
        let many: Vec<String> = (0..25).map(|number| format!("m{number}.gguf")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        check("o/r/c.gguf", &many, Err((missing, "m19.gguf and 5 more")));
    }

    #[test]
    fn without_a_name_the_only_model_or_the_only_q4_k_m_is_chosen() {
        check("o/r", &["README.md", "m.Q8_0.gguf"], Ok("m.Q8_0.gguf"));
        check("o/r", &["m.Q8_0.gguf", "mmproj-m.gguf"], Ok("m.Q8_0.gguf"));
        check("o/r", &["m-Q8_0.gguf", "m-q4_k_m.gguf", "m-Q4_K_S.gguf"], Ok("m-q4_k_m.gguf"));
        check("o/r", &["big-00001-of-00002.gguf", "big-00002-of-00002.gguf", "m.gguf"], Ok("m.gguf"));
        let several = FailureCode::InvalidRequest;
        check("o/r", &["m.Q8_0.gguf", "m.Q5_0.gguf"], Err((several, "such as hf:o/r/m.Q8_0.gguf")));
        check("o/r", &["a.Q4_K_M.gguf", "b.Q4_K_M.gguf"], Err((several, "a.Q4_K_M.gguf, b.Q4_K_M.gguf")));
        check("o/r", &["README.md"], Err((FailureCode::ModelMissing, "no GGUF files")));
        check("o/r", &["big-00001-of-00002.gguf"], Err((FailureCode::ModelMissing, "no single model file")));
    }

    #[test]
    fn name_that_leads_out_of_the_folder_is_never_chosen() {
        check("o/r", &["../../m.gguf"], Err((FailureCode::ModelMissing, "no single model file")));
        check("o/r", &["/etc/m.gguf", "m.gguf"], Ok("m.gguf"));
    }

    #[test]
    fn listing_has_the_sizes_and_digests_that_are_well_formed() {
        let (commit, digest, object) = ("a".repeat(40), "b".repeat(64), "c".repeat(40));
        let body = format!(
            r#"{{"sha":"{commit}","siblings":[
                {{"rfilename":"m.gguf","size":7,"blobId":"{object}","lfs":{{"sha256":"{digest}","size":9}}}},
                {{"rfilename":"s.gguf","size":7,"blobId":"{object}"}},
                {{"rfilename":"x.gguf","blobId":"../x","lfs":{{"sha256":"../y"}}}}]}}"#
        );
        let listing = Listing::read(body.as_bytes()).expect("a listing");
        let found: Vec<_> = listing.files.iter().map(|file| (file.bytes, file.content.clone())).collect();
        let expected =
            [(Some(9), Content::Sha256(digest)), (Some(7), Content::GitObject(object)), (None, Content::Unknown)];
        assert_eq!(found, expected);
    }

    #[test]
    fn malformed_listing_is_refused() {
        for body in ["", "<html>", "{}", r#"{"sha":"main","siblings":[]}"#, r#"{"sha":"../x","siblings":[]}"#] {
            assert!(Listing::read(body.as_bytes()).is_err(), "{body}");
        }
    }
}
