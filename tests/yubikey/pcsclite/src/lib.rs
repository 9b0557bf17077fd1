//! A drop-in libpcsclite.so.1: the functions of pcsc-lite's `winscard.h`, answered by the service in `tests/yubikey` whose
//! socket `STRONGROOM_TEST_PCSC` names. Without that variable there is no service.
//!
//! This is the one file with `unsafe` in it: C's pointers in and out. The types are those of 64-bit Linux.
#![allow(non_snake_case, non_upper_case_globals)]

mod client;

use std::ffi::{CStr, c_char, c_long, c_ulong, c_void};
use std::ptr;
use virtual_yubikey::card::ATR;
use virtual_yubikey::protocol::{Reply, Request, code};

type Dword = c_ulong;
type Long = c_long;

/// `SCARD_AUTOALLOCATE`: the library makes room for the answer.
const ALLOCATE: Dword = Dword::MAX;
const PROTOCOL_T1: Dword = 2;
/// `SCARD_ATTR_ATR_STRING`.
const ATTRIBUTE_ATR: Dword = 0x0009_0303;
/// `SCARD_STATE_PRESENT`.
const STATE_PRESENT: u32 = 0x20;

/// `SCARD_IO_REQUEST`.
#[repr(C)]
pub struct IoRequest {
    protocol: Dword,
    length: Dword,
}

/// `SCARD_READERSTATE`.
#[repr(C)]
pub struct ReaderState {
    reader: *const c_char,
    user_data: *mut c_void,
    current: Dword,
    event: Dword,
    atr_length: Dword,
    atr: [u8; 33],
}

/// `SCARD_PCI_T0`.
#[unsafe(no_mangle)]
pub static g_rgSCardT0Pci: IoRequest = IoRequest { protocol: 1, length: size_of::<IoRequest>() as Dword };
/// `SCARD_PCI_T1`.
#[unsafe(no_mangle)]
pub static g_rgSCardT1Pci: IoRequest = IoRequest { protocol: 2, length: size_of::<IoRequest>() as Dword };
/// `SCARD_PCI_RAW`.
#[unsafe(no_mangle)]
pub static g_rgSCardRawPci: IoRequest = IoRequest { protocol: 4, length: size_of::<IoRequest>() as Dword };

unsafe extern "C" {
    fn malloc(size: usize) -> *mut c_void;
    fn free(pointer: *mut c_void);
}

fn result(done: Result<(), u32>) -> Long {
    Long::from(done.err().unwrap_or(code::SUCCESS))
}

/// # Safety
/// `out` is null or writable.
unsafe fn give<T>(out: *mut T, value: T) {
    if !out.is_null() {
        unsafe { out.write(value) }
    }
}

/// Hands bytes out as PC/SC does: a null buffer asks for the length, `SCARD_AUTOALLOCATE` for room.
///
/// # Safety
/// `length` is null or points to a length; `buffer` is null, has that many bytes, or is a pointer to be set.
unsafe fn give_bytes(bytes: &[u8], buffer: *mut u8, length: *mut Dword) -> Result<(), u32> {
    if length.is_null() {
        return Ok(());
    }
    unsafe {
        let room = length.replace(bytes.len() as Dword);
        if buffer.is_null() {
            return Ok(());
        }
        let to = match room {
            ALLOCATE => {
                let made: *mut u8 = malloc(bytes.len()).cast();
                buffer.cast::<*mut u8>().write_unaligned(made);
                made
            }
            _ if (room as usize) < bytes.len() => return Err(code::INSUFFICIENT_BUFFER),
            _ => buffer,
        };
        ptr::copy_nonoverlapping(bytes.as_ptr(), to, bytes.len());
    }
    Ok(())
}

/// # Safety
/// A C string.
unsafe fn text(string: *const c_char) -> Result<String, u32> {
    if string.is_null() {
        return Err(code::INVALID_PARAMETER);
    }
    unsafe { CStr::from_ptr(string) }.to_str().map(String::from).map_err(|_| code::UNKNOWN_READER)
}

/// # Safety
/// As winscard.h has it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn SCardEstablishContext(
    _scope: Dword,
    _reserved: *const c_void,
    _reserved_too: *const c_void,
    context: *mut Long,
) -> Long {
    let done = client::establish().map(|made| unsafe { give(context, made) });
    result(done)
}

/// As winscard.h has it.
#[unsafe(no_mangle)]
pub extern "C" fn SCardReleaseContext(context: Long) -> Long {
    result(client::release(context))
}

/// As winscard.h has it.
#[unsafe(no_mangle)]
pub extern "C" fn SCardIsValidContext(context: Long) -> Long {
    result(client::is_valid(context))
}

/// As winscard.h has it.
#[unsafe(no_mangle)]
pub extern "C" fn SCardCancel(context: Long) -> Long {
    result(client::cancel(context))
}

/// # Safety
/// As winscard.h has it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn SCardListReaders(
    context: Long,
    _groups: *const c_char,
    readers: *mut c_char,
    length: *mut Dword,
) -> Long {
    let done = client::on_context(context, &Request::ListReaders).and_then(|mut reply| {
        reply.bytes.push(0);
        unsafe { give_bytes(&reply.bytes, readers.cast(), length) }
    });
    result(done)
}

/// # Safety
/// As winscard.h has it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn SCardListReaderGroups(
    context: Long,
    groups: *mut c_char,
    length: *mut Dword,
) -> Long {
    let done = client::is_valid(context)
        .and_then(|()| unsafe { give_bytes(b"SCard$DefaultReaders\0\0", groups.cast(), length) });
    result(done)
}

/// # Safety
/// As winscard.h has it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn SCardConnect(
    context: Long,
    reader: *const c_char,
    share: Dword,
    protocols: Dword,
    handle: *mut Long,
    protocol: *mut Dword,
) -> Long {
    let done = unsafe { text(reader) }
        .and_then(|reader| client::connect_card(context, &reader, share as u32, protocols as u32))
        .map(|made| unsafe {
            give(handle, made);
            give(protocol, PROTOCOL_T1);
        });
    result(done)
}

/// # Safety
/// As winscard.h has it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn SCardReconnect(
    handle: Long,
    share: Dword,
    protocols: Dword,
    initialisation: Dword,
    protocol: *mut Dword,
) -> Long {
    let request = |number| Request::Reconnect(number, share as u32, protocols as u32, initialisation as u32);
    let done = client::on_handle(handle, request).map(|_| unsafe { give(protocol, PROTOCOL_T1) });
    result(done)
}

/// As winscard.h has it.
#[unsafe(no_mangle)]
pub extern "C" fn SCardDisconnect(handle: Long, disposition: Dword) -> Long {
    result(client::disconnect(handle, disposition as u32))
}

/// As winscard.h has it.
#[unsafe(no_mangle)]
pub extern "C" fn SCardBeginTransaction(handle: Long) -> Long {
    result(client::on_handle(handle, Request::Begin).map(drop))
}

/// As winscard.h has it.
#[unsafe(no_mangle)]
pub extern "C" fn SCardEndTransaction(handle: Long, disposition: Dword) -> Long {
    result(client::on_handle(handle, |number| Request::End(number, disposition as u32)).map(drop))
}

/// # Safety
/// As winscard.h has it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn SCardTransmit(
    handle: Long,
    _send: *const IoRequest,
    command: *const u8,
    command_length: Dword,
    _receive: *mut IoRequest,
    answer: *mut u8,
    answer_length: *mut Dword,
) -> Long {
    if command.is_null() || answer.is_null() || answer_length.is_null() {
        return Long::from(code::INVALID_PARAMETER);
    }
    let apdu = unsafe { std::slice::from_raw_parts(command, command_length as usize) }.to_vec();
    let done = client::on_handle(handle, |number| Request::Transmit(number, apdu))
        .and_then(|reply| unsafe { give_bytes(&reply.bytes, answer, answer_length) });
    result(done)
}

/// # Safety
/// As winscard.h has it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn SCardStatus(
    handle: Long,
    name: *mut c_char,
    name_length: *mut Dword,
    state: *mut Dword,
    protocol: *mut Dword,
    atr: *mut u8,
    atr_length: *mut Dword,
) -> Long {
    let done = client::on_handle(handle, Request::Status).and_then(|reply| unsafe {
        give(state, reply.numbers.first().copied().unwrap_or_default().into());
        give(protocol, PROTOCOL_T1);
        give_bytes(&[&reply.bytes[..], &[0]].concat(), name.cast(), name_length)?;
        give_bytes(ATR, atr, atr_length)
    });
    result(done)
}

/// # Safety
/// As winscard.h has it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn SCardGetStatusChange(
    context: Long,
    milliseconds: Dword,
    states: *mut ReaderState,
    count: Dword,
) -> Long {
    if states.is_null() || count == 0 {
        return result(client::is_valid(context));
    }
    let states = unsafe { std::slice::from_raw_parts_mut(states, count as usize) };
    let known = states.iter().map(|state| Ok((unsafe { text(state.reader)? }, state.current as u32)));
    let done = known
        .collect::<Result<_, u32>>()
        .and_then(|known| client::on_context(context, &Request::Changes(milliseconds as u32, known)))
        .map(|reply| note_states(states, &reply));
    result(done)
}

fn note_states(states: &mut [ReaderState], reply: &Reply) {
    for (state, now) in states.iter_mut().zip(&reply.numbers) {
        state.event = Dword::from(*now);
        state.atr_length = 0;
        if now & STATE_PRESENT != 0 {
            state.atr_length = ATR.len() as Dword;
            state.atr[..ATR.len()].copy_from_slice(ATR);
        }
    }
}

/// # Safety
/// As winscard.h has it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn SCardGetAttrib(
    handle: Long,
    attribute: Dword,
    value: *mut u8,
    length: *mut Dword,
) -> Long {
    let done = client::on_handle(handle, Request::Status).and_then(|_| match attribute {
        ATTRIBUTE_ATR => unsafe { give_bytes(ATR, value, length) },
        _ => Err(code::UNSUPPORTED_FEATURE),
    });
    result(done)
}

/// As winscard.h has it: no attribute can be set.
#[unsafe(no_mangle)]
pub extern "C" fn SCardSetAttrib(
    _handle: Long,
    _attribute: Dword,
    _value: *const u8,
    _length: Dword,
) -> Long {
    Long::from(code::UNSUPPORTED_FEATURE)
}

/// # Safety
/// As winscard.h has it. The reader has no features to control.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn SCardControl(
    _handle: Long,
    _control: Dword,
    _input: *const c_void,
    _input_length: Dword,
    _output: *mut c_void,
    _output_length: Dword,
    returned: *mut Dword,
) -> Long {
    unsafe { give(returned, 0) };
    Long::from(code::UNSUPPORTED_FEATURE)
}

/// # Safety
/// What was allocated here.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn SCardFreeMemory(_context: Long, memory: *mut c_void) -> Long {
    unsafe { free(memory) };
    Long::from(code::SUCCESS)
}

/// The code's name, roughly.
#[unsafe(no_mangle)]
pub extern "C" fn pcsc_stringify_error(error: Long) -> *const c_char {
    let name = match error as u32 {
        code::SUCCESS => c"Command successful.",
        code::NO_SERVICE => c"Service not available.",
        code::NO_SMARTCARD => c"No smart card inserted.",
        code::NO_READERS => c"Cannot find a smart card reader.",
        code::RESET_CARD => c"Card was reset.",
        code::REMOVED_CARD => c"Card was removed.",
        code::NOT_TRANSACTED => c"Transaction failed.",
        code::SHARING_VIOLATION => c"Sharing violation.",
        code::UNKNOWN_READER => c"Unknown reader specified.",
        _ => c"Another error.",
    };
    name.as_ptr()
}
