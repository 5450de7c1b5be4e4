//! What frames carry → requests, outputs and answers; what is understood says the same when it is written again.
#![no_main]

use dayfly::protocol::message::{
    AgentRequest, Exec, FileContent, Output, RECORD_HEADER_LEN, Request, answer_from_record, decode, encode, record_len,
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Ok(request) = decode::<Request>(data) {
        assert_eq!(decode::<Request>(&encode(&request)), Ok(request));
    }
    if let Ok(exec) = decode::<Exec>(data) {
        assert_eq!(decode::<Exec>(&encode(&exec)), Ok(exec));
    }
    drop(decode::<AgentRequest>(data));
    let Some((header, content)) = data.split_first_chunk::<RECORD_HEADER_LEN>() else { return };
    drop(record_len(*header));
    drop(answer_from_record::<()>(header[0], content));
    drop(answer_from_record::<FileContent>(header[0], content));
    if let Ok(output) = Output::from_record(header[0], content.to_vec()) {
        let again = output.to_record();
        assert_eq!(Output::from_record(again[0], again[RECORD_HEADER_LEN..].to_vec()), Ok(output));
    }
});
