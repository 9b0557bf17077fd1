//! stub
pub fn connect(_: &crate::uri::DeviceUri) -> crate::error::Result<Box<dyn super::Device>> { unimplemented!() }
