//! `AES_GCM` as modules do it that make the IV themselves, on top of one that takes the application's.

use std::collections::HashMap;
use std::io::Read;
use std::sync::{LazyLock, Mutex};

use cryptoki_sys::*;

use crate::control::Fault;
use crate::{before, real};

/// IVs to be appended to the ciphertext of a session's operation under way.
static APPENDED: LazyLock<Mutex<HashMap<CK_SESSION_HANDLE, [u8; 12]>>> = LazyLock::new(Mutex::default);

pub unsafe extern "C" fn C_EncryptInit(
    session: CK_SESSION_HANDLE,
    mechanism: *mut CK_MECHANISM,
    key: CK_OBJECT_HANDLE,
) -> CK_RV {
    let fault = match before("C_EncryptInit") {
        Ok(fault) => fault,
        Err(code) => return code,
    };
    let Some(call) = real().C_EncryptInit else { return CKR_FUNCTION_NOT_SUPPORTED };
    APPENDED.lock().unwrap_or_else(|e| e.into_inner()).remove(&session);
    let raw = unsafe { *mechanism };
    if raw.mechanism != CKM_AES_GCM || !matches!(fault, Some(Fault::IvInPlace | Fault::IvAppended | Fault::IvZero)) {
        return unsafe { call(session, mechanism, key) };
    }
    let mut parameter = unsafe { *raw.pParameter.cast::<CK_GCM_PARAMS>() };
    let given =
        if parameter.pIv.is_null() { None } else { Some(unsafe { std::slice::from_raw_parts_mut(parameter.pIv, 12) }) };
    let mut iv = random();
    match (fault, given) {
        // CloudHSM: "Expect IV to be all 0".
        (Some(Fault::IvInPlace), Some(buffer)) if buffer.iter().all(|b| *b == 0) => buffer.copy_from_slice(&iv),
        // A module that takes the zero buffer for the IV.
        (Some(Fault::IvZero), Some(buffer)) if buffer.iter().all(|b| *b == 0) => iv = [0; 12],
        (Some(Fault::IvAppended), None) => {
            APPENDED.lock().unwrap_or_else(|e| e.into_inner()).insert(session, iv);
        }
        _ => return CKR_MECHANISM_PARAM_INVALID,
    }
    parameter.pIv = iv.as_mut_ptr();
    parameter.ulIvLen = 12;
    parameter.ulIvBits = 96;
    let mut inner = CK_MECHANISM { pParameter: (&raw mut parameter).cast(), ..raw };
    unsafe { call(session, &raw mut inner, key) }
}

pub unsafe extern "C" fn C_Encrypt(
    session: CK_SESSION_HANDLE,
    data: *mut CK_BYTE,
    length: CK_ULONG,
    out: *mut CK_BYTE,
    room: *mut CK_ULONG,
) -> CK_RV {
    let fault = before("C_Encrypt");
    let Some(call) = real().C_Encrypt else { return CKR_FUNCTION_NOT_SUPPORTED };
    let given = unsafe { *room };
    // Also behind an injected code: the real operation must not stay active.
    let code = unsafe { call(session, data, length, out, room) };
    let appended = APPENDED.lock().unwrap_or_else(|e| e.into_inner()).remove(&session);
    match (fault, appended) {
        (Err(injected), _) => injected,
        (Ok(Some(Fault::After(after))), _) => after,
        (Ok(Some(Fault::Flip)), None) if code == CKR_OK => {
            unsafe { *out ^= 1 };
            code
        }
        (_, Some(iv)) if code == CKR_OK => {
            let written = unsafe { *room };
            if written + 12 > given {
                return CKR_BUFFER_TOO_SMALL;
            }
            unsafe {
                out.add(written as usize).copy_from_nonoverlapping(iv.as_ptr(), 12);
                *room = written + 12;
            }
            CKR_OK
        }
        _ => code,
    }
}

fn random() -> [u8; 12] {
    let mut iv = [0; 12];
    std::fs::File::open("/dev/urandom")
        .and_then(|mut file| file.read_exact(&mut iv))
        .expect("this system has /dev/urandom");
    iv
}
