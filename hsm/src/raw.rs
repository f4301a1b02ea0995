//! The calls into a module that `cryptoki`'s safe layer cannot make: pre-sized buffers, raw token information, the whole mechanism list,
//! key wrap with padding. The only module of this crate with `unsafe`; no policy lives here.
#![expect(unsafe_code, reason = "C calls through the module's function list; every block says why it is sound")]

use std::io::Read as _;
use std::os::fd::AsRawFd as _;
use std::path::Path;
use std::ptr;

use cryptoki::context::Function;
use cryptoki::error::Rv;
use cryptoki::object::ObjectHandle;
use cryptoki_sys as ck;
use zeroize::Zeroizing;

use crate::failure::Fault;

/// A module's own function list, beside the one `cryptoki` holds: the same library, loaded by the same path.
pub(crate) struct Raw {
    list: ck::CK_FUNCTION_LIST,
    // The function pointers in `list` live as long as the library is loaded.
    _library: ck::Pkcs11,
}

// SAFETY: the list is plain function pointers, never written after loading, and C_Initialize is called with CKF_OS_LOCKING_OK: PKCS#11
// (section 5.4 of 2.40) then obliges the module to be callable from several threads.
unsafe impl Send for Raw {}
// SAFETY: as for Send.
unsafe impl Sync for Raw {}

/// A mechanism with its parameter, bound to what it points at for as long as the call lasts.
pub(crate) enum Mechanism<'a> {
    /// A mechanism without parameter.
    Plain(u64),
    /// `CKM_AES_GCM` with a tag of 128 bits.
    Gcm {
        /// Where the IV comes from or goes to.
        iv: Iv<'a>,
        /// Additional authenticated data.
        aad: &'a [u8],
    },
    /// `CKM_RSA_PKCS_OAEP` with MGF1 of the same hash and an empty label.
    Oaep(Hash),
}

/// The IV of `CKM_AES_GCM`.
pub(crate) enum Iv<'a> {
    /// The application's, of at most 16 bytes.
    Given(&'a [u8]),
    /// A buffer the module writes its own IV into.
    Buffer(&'a mut [u8; 12]),
    /// None: the module appends its own to the ciphertext.
    Null,
}

/// The hash of OAEP.
#[derive(Clone, Copy)]
pub(crate) enum Hash {
    /// SHA-256.
    Sha256,
    /// SHA-1: SoftHSM 2.6.1 has nothing else. Tests only.
    Sha1,
}

impl Raw {
    /// Loads the module at `path` and takes its function list.
    pub(crate) fn load(path: &Path) -> Result<Self, Fault> {
        // SAFETY: loading runs the library's constructors. The path was examined (absolute, links resolved, owner, mode, hash) and this
        // process exists to run that code and nothing else.
        let library = unsafe { ck::Pkcs11::new(path) }
            .map_err(|_| Fault::from(cryptoki::error::Error::MissingSymbol("library")))?;
        if library.C_GetFunctionList.is_err() {
            return Err(Fault::from(cryptoki::error::Error::MissingSymbol("C_GetFunctionList")));
        }
        let mut list: *mut ck::CK_FUNCTION_LIST = ptr::null_mut();
        // SAFETY: the symbol exists, and the argument is a valid place for one pointer.
        check(unsafe { library.C_GetFunctionList(&raw mut list) }, Function::GetFunctionList)?;
        if list.is_null() {
            return Err(Fault::Rubbish("C_GetFunctionList gave no list"));
        }
        // SAFETY: not null, and PKCS#11 says it points to a list that lives as long as the library. Vendors pack the struct on some
        // platforms, so no alignment is assumed.
        let list = unsafe { list.read_unaligned() };
        Ok(Self { list, _library: library })
    }

    /// `C_GetInfo`.
    pub(crate) fn info(&self) -> Result<ck::CK_INFO, Fault> {
        let mut info = ck::CK_INFO::default();
        let call = self.list.C_GetInfo.ok_or(MISSING)?;
        // SAFETY: `info` is a valid CK_INFO to write to.
        check(unsafe { call(&raw mut info) }, Function::GetInfo)?;
        Ok(info)
    }

    /// `C_GetTokenInfo`, its text fields as the module wrote them.
    pub(crate) fn token_info(&self, slot: u64) -> Result<ck::CK_TOKEN_INFO, Fault> {
        let mut info = ck::CK_TOKEN_INFO::default();
        let call = self.list.C_GetTokenInfo.ok_or(MISSING)?;
        // SAFETY: `info` is a valid CK_TOKEN_INFO to write to.
        check(unsafe { call(slot, &raw mut info) }, Function::GetTokenInfo)?;
        Ok(info)
    }

    /// `C_GetMechanismList`, all of it, at most 4096 entries.
    pub(crate) fn mechanism_list(&self, slot: u64) -> Result<Vec<u64>, Fault> {
        let call = self.list.C_GetMechanismList.ok_or(MISSING)?;
        let mut found = vec![0; 4096];
        let mut count = 4096;
        // SAFETY: the buffer holds `count` entries, which is what the module is told.
        check(unsafe { call(slot, found.as_mut_ptr(), &raw mut count) }, Function::GetMechanismList)?;
        found.truncate(usize::try_from(count).unwrap_or(0));
        Ok(found)
    }

    /// `C_EncryptInit` and one `C_Encrypt` into a buffer of `room` bytes.
    pub(crate) fn encrypt(
        &self,
        session: u64,
        key: u64,
        mechanism: Mechanism<'_>,
        data: &[u8],
        room: usize,
    ) -> Result<Vec<u8>, Fault> {
        let init = self.list.C_EncryptInit.ok_or(MISSING)?;
        let call = self.list.C_Encrypt.ok_or(MISSING)?;
        let mut out = vec![0; room];
        let mut length = ulong(room);
        with_mechanism(mechanism, |mechanism| {
            // SAFETY: the mechanism and what it points at live until this closure returns.
            check(unsafe { init(session, mechanism, key) }, Function::EncryptInit)?;
            // SAFETY: both buffers have the lengths given. The module only reads the input; the C type has no const.
            check(
                unsafe {
                    call(session, data.as_ptr().cast_mut(), ulong(data.len()), out.as_mut_ptr(), &raw mut length)
                },
                Function::Encrypt,
            )
        })?;
        cut(&mut out, length)?;
        Ok(out)
    }

    /// `C_DecryptInit` and one `C_Decrypt` into a buffer of `room` bytes, which is wiped on drop.
    pub(crate) fn decrypt(
        &self,
        session: u64,
        key: u64,
        mechanism: Mechanism<'_>,
        data: &[u8],
        room: usize,
    ) -> Result<Zeroizing<Vec<u8>>, Fault> {
        let init = self.list.C_DecryptInit.ok_or(MISSING)?;
        let call = self.list.C_Decrypt.ok_or(MISSING)?;
        let mut out = Zeroizing::new(vec![0; room]);
        let mut length = ulong(room);
        with_mechanism(mechanism, |mechanism| {
            // SAFETY: the mechanism and what it points at live until this closure returns.
            check(unsafe { init(session, mechanism, key) }, Function::DecryptInit)?;
            // SAFETY: as in `encrypt`.
            check(
                unsafe {
                    call(session, data.as_ptr().cast_mut(), ulong(data.len()), out.as_mut_ptr(), &raw mut length)
                },
                Function::Decrypt,
            )
        })?;
        cut(&mut out, length)?;
        Ok(out)
    }

    /// `C_WrapKey` into a buffer of `room` bytes.
    pub(crate) fn wrap_key(
        &self,
        session: u64,
        mechanism: u64,
        kek: u64,
        key: u64,
        room: usize,
    ) -> Result<Vec<u8>, Fault> {
        let call = self.list.C_WrapKey.ok_or(MISSING)?;
        let mut out = vec![0; room];
        let mut length = ulong(room);
        with_mechanism(Mechanism::Plain(mechanism), |mechanism| {
            // SAFETY: the mechanism lives until this closure returns, and the buffer has the length given.
            check(unsafe { call(session, mechanism, kek, key, out.as_mut_ptr(), &raw mut length) }, Function::WrapKey)
        })?;
        cut(&mut out, length)?;
        Ok(out)
    }

    /// `C_UnwrapKey` into an extractable session object of generic secret bytes; its handle.
    pub(crate) fn unwrap_key(&self, session: u64, mechanism: u64, kek: u64, wrapped: &[u8]) -> Result<u64, Fault> {
        let call = self.list.C_UnwrapKey.ok_or(MISSING)?;
        let (mut class, mut kind) = (ck::CKO_SECRET_KEY, ck::CKK_GENERIC_SECRET);
        let (mut yes, mut no, mut no_either) = (ck::CK_TRUE, ck::CK_FALSE, ck::CK_FALSE);
        let mut template = [
            attribute(ck::CKA_CLASS, &mut class),
            attribute(ck::CKA_KEY_TYPE, &mut kind),
            attribute(ck::CKA_EXTRACTABLE, &mut yes),
            attribute(ck::CKA_SENSITIVE, &mut no),
            attribute(ck::CKA_TOKEN, &mut no_either),
        ];
        let mut handle = 0;
        with_mechanism(Mechanism::Plain(mechanism), |mechanism| {
            // SAFETY: mechanism, input, template and the values it points at live until the call returns, with the lengths given.
            check(
                unsafe {
                    call(
                        session,
                        mechanism,
                        kek,
                        wrapped.as_ptr().cast_mut(),
                        ulong(wrapped.len()),
                        template.as_mut_ptr(),
                        ulong(template.len()),
                        &raw mut handle,
                    )
                },
                Function::UnwrapKey,
            )
        })?;
        Ok(handle)
    }

    /// Whether a child after fork gets the same random bytes as its parent; nothing if it gets none. The child only makes that one call.
    pub(crate) fn random_after_fork(&self, session: u64) -> Result<Option<bool>, Fault> {
        let call = self.list.C_GenerateRandom.ok_or(MISSING)?;
        let (reader, writer) = std::io::pipe().map_err(|_| Fault::Rubbish("no pipe"))?;
        let mut mine = [0_u8; 32];
        // SAFETY: the child calls the module, writes to the pipe and leaves by `_exit`: no Rust code with locks runs in it. If the module
        // itself holds a lock that another thread had at the fork, the alarm ends the child.
        let child = unsafe { libc::fork() };
        if child == 0 {
            let mut bytes = [0_u8; 32];
            // SAFETY: the buffer has the length given; `write` gets a descriptor that is open in the child; `_exit` does not return.
            unsafe {
                libc::alarm(5);
                if call(session, bytes.as_mut_ptr(), 32) == ck::CKR_OK {
                    libc::write(writer.as_raw_fd(), bytes.as_ptr().cast(), bytes.len());
                }
                libc::_exit(0);
            }
        }
        drop(writer);
        if child < 0 {
            return Err(Fault::Rubbish("no fork"));
        }
        let mut theirs = Vec::new();
        let read = { reader }.take(64).read_to_end(&mut theirs);
        let mut status = 0;
        // SAFETY: `child` is this call's own and is waited for once.
        unsafe { libc::waitpid(child, &raw mut status, 0) };
        // SAFETY: the buffer has the length given.
        check(unsafe { call(session, mine.as_mut_ptr(), 32) }, Function::GenerateRandom)?;
        Ok((read.is_ok() && theirs.len() == 32).then(|| theirs == mine))
    }
}

const MISSING: Fault = Fault::Rubbish("the module lacks a function");

/// Builds the C structs of a mechanism on the stack, where they outlive the call.
fn with_mechanism<R>(mechanism: Mechanism<'_>, call: impl FnOnce(*mut ck::CK_MECHANISM) -> R) -> R {
    let plain = |kind, parameter: *mut std::ffi::c_void, length: usize| {
        let mut raw = ck::CK_MECHANISM { mechanism: kind, pParameter: parameter, ulParameterLen: ulong(length) };
        call(&raw mut raw)
    };
    match mechanism {
        Mechanism::Plain(kind) => plain(kind, ptr::null_mut(), 0),
        Mechanism::Gcm { iv, aad } => {
            // A copy: modules that make the IV themselves write into the parameter whatever it is.
            let mut own = [0; 16];
            let (place, length) = match iv {
                Iv::Given(bytes) => {
                    let length = bytes.len().min(own.len());
                    own[..length].copy_from_slice(&bytes[..length]);
                    (own.as_mut_ptr(), length)
                }
                Iv::Buffer(bytes) => (bytes.as_mut_ptr(), bytes.len()),
                Iv::Null => (ptr::null_mut(), 0),
            };
            let mut parameter = ck::CK_GCM_PARAMS {
                pIv: place,
                ulIvLen: ulong(length),
                ulIvBits: ulong(length * 8),
                pAAD: if aad.is_empty() { ptr::null_mut() } else { aad.as_ptr().cast_mut() },
                ulAADLen: ulong(aad.len()),
                ulTagBits: 128,
            };
            plain(ck::CKM_AES_GCM, (&raw mut parameter).cast(), size_of::<ck::CK_GCM_PARAMS>())
        }
        Mechanism::Oaep(hash) => {
            let (hash, mgf) = match hash {
                Hash::Sha256 => (ck::CKM_SHA256, ck::CKG_MGF1_SHA256),
                Hash::Sha1 => (ck::CKM_SHA_1, ck::CKG_MGF1_SHA1),
            };
            let mut parameter = ck::CK_RSA_PKCS_OAEP_PARAMS {
                hashAlg: hash,
                mgf,
                source: ck::CKZ_DATA_SPECIFIED,
                pSourceData: ptr::null_mut(),
                ulSourceDataLen: 0,
            };
            plain(ck::CKM_RSA_PKCS_OAEP, (&raw mut parameter).cast(), size_of::<ck::CK_RSA_PKCS_OAEP_PARAMS>())
        }
    }
}

fn attribute<T>(kind: u64, value: &mut T) -> ck::CK_ATTRIBUTE {
    ck::CK_ATTRIBUTE { type_: kind, pValue: (&raw mut *value).cast(), ulValueLen: ulong(size_of::<T>()) }
}

fn check(code: ck::CK_RV, function: Function) -> Result<(), Fault> {
    Rv::from(code).into_result(function).map_err(Fault::from)
}

fn ulong(length: usize) -> ck::CK_ULONG {
    length as ck::CK_ULONG
}

/// Cuts a buffer to what the module says it wrote, which must not be more than it was given.
fn cut(out: &mut Vec<u8>, length: ck::CK_ULONG) -> Result<(), Fault> {
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    if length > out.len() {
        return Err(Fault::Rubbish("the module says it wrote more than the buffer holds"));
    }
    out.truncate(length);
    Ok(())
}

/// A handle that a raw call returned, in `cryptoki`'s type.
pub(crate) fn object(handle: u64) -> ObjectHandle {
    // SAFETY: cryptoki marks this unsafe because a made-up handle names an arbitrary object; a handle is a number the module checks.
    unsafe { ObjectHandle::new_from_raw(handle) }
}
