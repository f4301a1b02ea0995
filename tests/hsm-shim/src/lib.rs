//! A PKCS#11 module that forwards every call to a real one, except where a control file says otherwise.
//!
//! It finds its files by the environment, or beside the real module's settings as `real-module`, `control` and `calls`.
//! Environment: `HSM_SHIM_MODULE`, the real module; `HSM_SHIM_CONTROL`, the control file, read at every intercepted call; `HSM_SHIM_CALLS`, a
//! file to which `pid function` is appended at each call, and `pid environment NAME=VALUE` when it is loaded; `HSM_SHIM_INITIALISE`, a string
//! that the real module wants at its initialisation, as NSS does. A line of the control file is
//!
//! ```text
//! C_Decrypt rv=0x30 from=2 to=3
//! ```
//!
//! A function (`*` is all) and one fault: `rv=CODE` returns it without a call, `after=CODE` after the call, `delay=MILLISECONDS`, `hang`,
//! `crash` (SIGSEGV), `flip` (a bit of what is returned), `longer` (claims more bytes than there was room for). `from` and `to` are the first
//! and last call it applies to, counted per process and function from 1; `times` is how often the line applies in a process, and `tag` only
//! makes it another line. `flags=BITS` and `sessions=N` change what a token says of itself. `iv=inplace` and `iv=appended` make `AES_GCM` take its IV as modules do that make it themselves; `iv=zero` as one that
//! was asked for it and left the buffer alone. Of `CKA_CLASS`, counted as if it were a function, `class=none` says nothing and `class=CODE` that.
#![allow(non_snake_case, missing_docs, reason = "the names are PKCS#11's")]
#![allow(clippy::missing_safety_doc, reason = "a C module's functions, called by a loader")]

mod control;
mod gcm;

use std::sync::LazyLock;

use control::Fault;
use cryptoki_sys::*;

/// The real module, loaded once.
struct Real {
    list: CK_FUNCTION_LIST,
    _library: Pkcs11,
}

// The list is function pointers of a library that stays loaded.
unsafe impl Sync for Real {}
unsafe impl Send for Real {}

static REAL: LazyLock<Option<Real>> = LazyLock::new(|| unsafe {
    control::record_environment();
    let library = Pkcs11::new(control::named("HSM_SHIM_MODULE", "real-module")?).ok()?;
    let mut list = std::ptr::null_mut();
    (library.C_GetFunctionList(&raw mut list) == CKR_OK && !list.is_null())
        .then(|| Real { list: *list, _library: library })
});

/// The list handed out: the real one with the intercepted functions replaced.
struct Handed(std::cell::UnsafeCell<CK_FUNCTION_LIST>);
// Written once, before its address is given out.
unsafe impl Sync for Handed {}
unsafe impl Send for Handed {}

static HANDED: LazyLock<Option<Handed>> = LazyLock::new(|| {
    let mut list = REAL.as_ref()?.list;
    replace(&mut list);
    Some(Handed(std::cell::UnsafeCell::new(list)))
});

fn real() -> &'static CK_FUNCTION_LIST {
    &REAL.as_ref().expect("a function was called, so the module was loaded").list
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn C_GetFunctionList(list: *mut *mut CK_FUNCTION_LIST) -> CK_RV {
    match &*HANDED {
        Some(handed) => {
            unsafe { *list = handed.0.get() };
            CKR_OK
        }
        None => CKR_GENERAL_ERROR,
    }
}

/// What a fault does to a call: `Err` ends it.
fn before(name: &str) -> Result<Option<Fault>, CK_RV> {
    match control::fault(name) {
        Some(Fault::Code(code)) => Err(code),
        Some(Fault::Delay(time)) => {
            std::thread::sleep(time);
            Ok(None)
        }
        Some(Fault::Hang) => loop {
            std::thread::sleep(std::time::Duration::from_secs(3600));
        },
        // A write through a null pointer, so that it dies as a module does: by the signal.
        Some(Fault::Crash) => unsafe {
            std::ptr::null_mut::<u8>().write_volatile(1);
            Err(CKR_GENERAL_ERROR)
        },
        other => Ok(other),
    }
}

macro_rules! intercept {
    ($($name:ident($($argument:ident: $kind:ty),*);)*) => {
        $(unsafe extern "C" fn $name($($argument: $kind),*) -> CK_RV {
            let fault = match before(stringify!($name)) {
                Ok(fault) => fault,
                Err(code) => return code,
            };
            let Some(call) = real().$name else { return CKR_FUNCTION_NOT_SUPPORTED };
            let code = unsafe { call($($argument),*) };
            match fault {
                Some(Fault::After(after)) => after,
                _ => code,
            }
        })*

        fn replace(list: &mut CK_FUNCTION_LIST) {
            $(list.$name = Some($name);)*
            list.C_Initialize = Some(C_Initialize);
            list.C_EncryptInit = Some(gcm::C_EncryptInit);
            list.C_Encrypt = Some(gcm::C_Encrypt);
            list.C_Decrypt = Some(C_Decrypt);
            list.C_GetTokenInfo = Some(C_GetTokenInfo);
            list.C_GetAttributeValue = Some(C_GetAttributeValue);
        }
    };
}

intercept! {
    C_Finalize(reserved: *mut std::ffi::c_void);
    C_GetSlotList(present: CK_BBOOL, list: *mut CK_SLOT_ID, count: *mut CK_ULONG);
    C_OpenSession(slot: CK_SLOT_ID, flags: CK_FLAGS, application: *mut std::ffi::c_void, notify: CK_NOTIFY, session: *mut CK_SESSION_HANDLE);
    C_CloseSession(session: CK_SESSION_HANDLE);
    C_GetSessionInfo(session: CK_SESSION_HANDLE, info: *mut CK_SESSION_INFO);
    C_Login(session: CK_SESSION_HANDLE, user: CK_USER_TYPE, pin: *mut CK_UTF8CHAR, length: CK_ULONG);
    C_Logout(session: CK_SESSION_HANDLE);
    C_FindObjectsInit(session: CK_SESSION_HANDLE, template: *mut CK_ATTRIBUTE, count: CK_ULONG);
    C_FindObjects(session: CK_SESSION_HANDLE, found: *mut CK_OBJECT_HANDLE, room: CK_ULONG, count: *mut CK_ULONG);
    C_CreateObject(session: CK_SESSION_HANDLE, template: *mut CK_ATTRIBUTE, count: CK_ULONG, object: *mut CK_OBJECT_HANDLE);
    C_DestroyObject(session: CK_SESSION_HANDLE, object: CK_OBJECT_HANDLE);
    C_GenerateKey(session: CK_SESSION_HANDLE, mechanism: *mut CK_MECHANISM, template: *mut CK_ATTRIBUTE, count: CK_ULONG, key: *mut CK_OBJECT_HANDLE);
    C_DecryptInit(session: CK_SESSION_HANDLE, mechanism: *mut CK_MECHANISM, key: CK_OBJECT_HANDLE);
    C_WrapKey(session: CK_SESSION_HANDLE, mechanism: *mut CK_MECHANISM, over: CK_OBJECT_HANDLE, key: CK_OBJECT_HANDLE, out: *mut CK_BYTE, length: *mut CK_ULONG);
    C_UnwrapKey(session: CK_SESSION_HANDLE, mechanism: *mut CK_MECHANISM, over: CK_OBJECT_HANDLE, wrapped: *mut CK_BYTE, length: CK_ULONG, template: *mut CK_ATTRIBUTE, count: CK_ULONG, key: *mut CK_OBJECT_HANDLE);
    C_GenerateRandom(session: CK_SESSION_HANDLE, bytes: *mut CK_BYTE, length: CK_ULONG);
}

/// What NSS takes for `CK_C_INITIALIZE_ARGS`: the standard's, with a string before the reserved pointer.
#[repr(C)]
struct InitializeArgs {
    standard: [*mut std::ffi::c_void; 4],
    flags: CK_FLAGS,
    string: *const std::ffi::c_char,
    reserved: *mut std::ffi::c_void,
}

unsafe extern "C" fn C_Initialize(arguments: *mut std::ffi::c_void) -> CK_RV {
    let fault = match before("C_Initialize") {
        Ok(fault) => fault,
        Err(code) => return code,
    };
    let Some(call) = real().C_Initialize else { return CKR_FUNCTION_NOT_SUPPORTED };
    let code = match control::initialisation() {
        Some(string) => {
            let nothing = std::ptr::null_mut();
            let (flags, string) = (CKF_OS_LOCKING_OK, string.as_ptr());
            let mut own = InitializeArgs { standard: [nothing; 4], flags, string, reserved: nothing };
            unsafe { call((&raw mut own).cast()) }
        }
        None => unsafe { call(arguments) },
    };
    match fault {
        Some(Fault::After(after)) => after,
        _ => code,
    }
}

unsafe extern "C" fn C_Decrypt(
    session: CK_SESSION_HANDLE,
    data: *mut CK_BYTE,
    length: CK_ULONG,
    out: *mut CK_BYTE,
    room: *mut CK_ULONG,
) -> CK_RV {
    let fault = match before("C_Decrypt") {
        Ok(fault) => fault,
        Err(code) => {
            // The real operation must not stay active behind an injected code.
            let (mut scrap, mut size) = (vec![0; 4096], 4096);
            if let Some(call) = real().C_Decrypt {
                unsafe { call(session, data, length, scrap.as_mut_ptr(), &raw mut size) };
            }
            return code;
        }
    };
    let Some(call) = real().C_Decrypt else { return CKR_FUNCTION_NOT_SUPPORTED };
    let code = unsafe { call(session, data, length, out, room) };
    match fault {
        Some(Fault::After(after)) => after,
        Some(Fault::Flip) if code == CKR_OK => {
            unsafe { *out ^= 1 };
            code
        }
        Some(Fault::Longer) if code == CKR_OK => {
            unsafe { *room = 1 << 40 };
            code
        }
        _ => code,
    }
}

unsafe extern "C" fn C_GetTokenInfo(slot: CK_SLOT_ID, info: *mut CK_TOKEN_INFO) -> CK_RV {
    let fault = match before("C_GetTokenInfo") {
        Ok(fault) => fault,
        Err(code) => return code,
    };
    let Some(call) = real().C_GetTokenInfo else { return CKR_FUNCTION_NOT_SUPPORTED };
    let code = unsafe { call(slot, info) };
    match fault {
        Some(Fault::Flags(bits)) if code == CKR_OK => unsafe { (*info).flags |= bits },
        Some(Fault::Sessions(most)) if code == CKR_OK => unsafe { (*info).ulMaxSessionCount = most },
        _ => {}
    }
    code
}

unsafe extern "C" fn C_GetAttributeValue(
    session: CK_SESSION_HANDLE,
    object: CK_OBJECT_HANDLE,
    template: *mut CK_ATTRIBUTE,
    count: CK_ULONG,
) -> CK_RV {
    let fault = match before("C_GetAttributeValue") {
        Ok(fault) => fault,
        Err(code) => return code,
    };
    let Some(call) = real().C_GetAttributeValue else { return CKR_FUNCTION_NOT_SUPPORTED };
    let code = unsafe { call(session, object, template, count) };
    if count == 1 && unsafe { (*template).type_ } == CKA_CLASS {
        match control::fault("CKA_CLASS") {
            Some(Fault::Class(None)) => unsafe {
                (*template).ulValueLen = CK_UNAVAILABLE_INFORMATION;
                return CKR_ATTRIBUTE_TYPE_INVALID;
            },
            Some(Fault::Class(Some(class))) if code == CKR_OK => unsafe {
                (*template).pValue.cast::<CK_OBJECT_CLASS>().write_unaligned(class);
            },
            _ => {}
        }
    }
    match fault {
        Some(Fault::After(after)) => after,
        _ => code,
    }
}
