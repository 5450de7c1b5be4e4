//! Objects that a user's repository on this host has, where the client of Git LFS put them.

use std::fs::File;
use std::io::{self, ErrorKind, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use axum::body::Body;
use axum::http::{Response, StatusCode};
use tokio::io::AsyncReadExt as _;
use tokio_util::io::ReaderStream;

use super::batch::{Object, ObjectError, Oid};
use super::range::Range;
use super::{Results, object_answer, object_failure, part_of};
use crate::host::beneath::Beneath;
use crate::net::git_proxy::admission::Admitted;
use crate::net::git_proxy::{Directory, Shared};
use crate::net::http::Failure;
use crate::net::transfer;

impl Shared {
    pub(super) async fn object_here(
        &self, directory: &Directory, admitted: &Admitted, oid: Oid, range: Option<Range>, held: impl Send + 'static,
    ) -> Result<Response<Body>, Failure> {
        let (mut file, size) = blocking(directory, move |users| open(users, oid)).await?.map_err(object_failure)?;
        let part = part_of(range, size)?;
        let length = part.map_or(size, |part| part.length);
        if let Some(part) = part {
            file.seek(SeekFrom::Start(part.first)).map_err(|error| object_failure(unreadable(oid, &error)))?;
        }
        let bytes = ReaderStream::new(tokio::fs::File::from_std(file).take(length));
        let body = transfer::bounded(bytes, self.limits.idle, self.responses.spender());
        Ok(object_answer(self.recorded(admitted, transfer::exact(body, length), held), part, size))
    }
}

/// Which of these objects there are.
pub(super) async fn find(directory: &Directory, objects: Vec<Object>) -> Result<Results<()>, Failure> {
    let found = move |users: &Path| {
        let results = objects.into_iter().map(|object| {
            let result = open(users, object.oid).and_then(|(_, size)| match size == object.size {
                true => Ok(()),
                false => Err(ObjectError::other_size("on this host", size, object.size)),
            });
            (object, result)
        });
        results.collect()
    };
    blocking(directory, found).await
}

async fn blocking<T: Send + 'static>(
    directory: &Directory, work: impl FnOnce(&Path) -> T + Send + 'static,
) -> Result<T, Failure> {
    let users: PathBuf = directory.users.clone();
    let done = tokio::task::spawn_blocking(move || work(&users)).await;
    done.map_err(|_| Failure {
        status: StatusCode::INTERNAL_SERVER_ERROR,
        detail: "reading was interrupted".to_owned(),
    })
}

/// The file of an object, and its size in bytes. No link is followed: a repository could lead anywhere by one.
fn open(users: &Path, oid: Oid) -> Result<(File, u64), ObjectError> {
    let name = oid.to_string();
    let opened = || {
        let file = Beneath::existing(users)?.read(&["lfs", "objects", &name[..2], &name[2..4], &name])?;
        let size = file.metadata()?.len();
        Ok((file, size))
    };
    opened().map_err(|error: io::Error| match error.kind() {
        ErrorKind::NotFound => ObjectError::new(
            404,
            format!("`{name}` is not in the repository on this host; `git lfs fetch` there gets it"),
        ),
        _ => unreadable(oid, &error),
    })
}

fn unreadable(oid: Oid, error: &io::Error) -> ObjectError {
    tracing::warn!(%error, %oid, "an object of Git LFS cannot be read");
    ObjectError::new(502, format!("`{oid}` cannot be read on this host: it must be a file, and no link lead to it"))
}
