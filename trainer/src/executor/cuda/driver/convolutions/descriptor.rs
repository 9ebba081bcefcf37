//! cuDNN's descriptors of graphs: made, given attributes, finalised, asked.

#![expect(unsafe_code, reason = "cuDNN is called through pointers")]

use std::ffi::{c_int, c_void};
use std::ptr::null_mut;
use std::rc::Rc;

use cudarc::cudnn::sys::cudnnBackendAttributeType_t as Type;
pub(super) use cudarc::cudnn::sys::{
    cudnnBackendAttributeName_t as Attribute, cudnnBackendDescriptorType_t as Kind,
};

use super::super::super::device::DeviceError;
use super::functions::{Cudnn, Opaque};

/// A descriptor whose attributes are being set.
pub(super) struct Unfinished {
    cudnn: &'static Cudnn,
    raw: Opaque,
    kind: Kind,
    parts: Vec<Descriptor>,
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        // SAFETY: it was created and is destroyed once. Nothing can be done about a failure.
        let _ = unsafe { (self.cudnn.graphs.destroy)(self.raw) };
    }
}

/// A finalised descriptor. It keeps those alive that it refers to.
#[derive(Clone)]
pub(super) struct Descriptor(Rc<Unfinished>);

impl Unfinished {
    pub(super) fn new(cudnn: &'static Cudnn, kind: Kind) -> Result<Self, DeviceError> {
        let mut raw = null_mut();
        // SAFETY: one pointer is written.
        let status = unsafe { (cudnn.graphs.create)(kind as c_int, &raw mut raw) };
        cudnn.check(&format!("creating {kind:?}"), status)?;
        Ok(Self { cudnn, raw, kind, parts: Vec::new() })
    }

    /// # Safety
    /// `T` is how C lays out a value of `kind`; pointers in it are valid for what cuDNN does.
    unsafe fn set<T>(
        self,
        attribute: Attribute,
        kind: Type,
        values: &[T],
    ) -> Result<Self, DeviceError> {
        let (count, from) = (values.len() as i64, values.as_ptr().cast());
        // SAFETY: by this function's own condition; the values are copied.
        let status = unsafe {
            (self.cudnn.graphs.set)(self.raw, attribute as c_int, kind as c_int, count, from)
        };
        self.cudnn.check(&format!("setting {attribute:?}"), status)?;
        Ok(self)
    }

    pub(super) fn integers(
        self,
        attribute: Attribute,
        values: &[i64],
    ) -> Result<Self, DeviceError> {
        // SAFETY: integers are of 64 bits.
        unsafe { self.set(attribute, Type::CUDNN_TYPE_INT64, values) }
    }

    pub(super) fn float(self, attribute: Attribute, value: f32) -> Result<Self, DeviceError> {
        // SAFETY: floating-point numbers are of single precision.
        unsafe { self.set(attribute, Type::CUDNN_TYPE_FLOAT, &[value]) }
    }

    pub(super) fn boolean(self, attribute: Attribute, value: bool) -> Result<Self, DeviceError> {
        // SAFETY: truth values are of C's `bool`.
        unsafe { self.set(attribute, Type::CUDNN_TYPE_BOOLEAN, &[value]) }
    }

    /// A value of an enumeration.
    pub(super) fn choice(
        self,
        attribute: Attribute,
        kind: Type,
        value: c_int,
    ) -> Result<Self, DeviceError> {
        // SAFETY: enumerations are of C's `int`.
        unsafe { self.set(attribute, kind, &[value]) }
    }

    #[cfg(test)]
    pub(super) fn characters(self, attribute: Attribute, text: &str) -> Result<Self, DeviceError> {
        // SAFETY: characters are of C's `char`.
        unsafe { self.set(attribute, Type::CUDNN_TYPE_CHAR, text.as_bytes()) }
    }

    pub(super) fn handle(self, attribute: Attribute, handle: Opaque) -> Result<Self, DeviceError> {
        // SAFETY: the handle is alive or null, which cuDNN refuses.
        unsafe { self.set(attribute, Type::CUDNN_TYPE_HANDLE, &[handle]) }
    }

    /// Addresses on the GPU.
    pub(super) fn addresses(
        self,
        attribute: Attribute,
        addresses: &[u64],
    ) -> Result<Self, DeviceError> {
        // SAFETY: pointers are of 64 bits; those on the GPU are not followed here.
        unsafe { self.set(attribute, Type::CUDNN_TYPE_VOID_PTR, addresses) }
    }

    pub(super) fn descriptors(
        mut self,
        attribute: Attribute,
        descriptors: &[&Descriptor],
    ) -> Result<Self, DeviceError> {
        self.parts.extend(descriptors.iter().map(|descriptor| (*descriptor).clone()));
        let raw: Vec<Opaque> = descriptors.iter().map(|descriptor| descriptor.raw()).collect();
        // SAFETY: descriptors are pointers; these are alive, and kept so.
        unsafe { self.set(attribute, Type::CUDNN_TYPE_BACKEND_DESCRIPTOR, &raw) }
    }

    pub(super) fn finish(self) -> Result<Descriptor, DeviceError> {
        // SAFETY: the descriptor is alive.
        let status = unsafe { (self.cudnn.graphs.finalize)(self.raw) };
        self.cudnn.check(&format!("finalising {:?}", self.kind), status)?;
        Ok(Descriptor(Rc::new(self)))
    }
}

impl Descriptor {
    pub(super) fn raw(&self) -> Opaque {
        self.0.raw
    }

    /// Up to `most` values of an attribute.
    ///
    /// # Safety
    /// `T` is how C lays out a value of `kind`.
    unsafe fn get<T: Clone>(
        &self,
        attribute: Attribute,
        kind: Type,
        mut values: Vec<T>,
    ) -> Result<Vec<T>, DeviceError> {
        let (cudnn, mut count) = (self.0.cudnn, 0_i64);
        let (most, to) = (values.len() as i64, values.as_mut_ptr().cast::<c_void>());
        // SAFETY: by this function's own condition, for as many values as there is room for.
        let status = unsafe {
            let get = cudnn.graphs.get;
            get(self.raw(), attribute as c_int, kind as c_int, most, &raw mut count, to)
        };
        cudnn.check(&format!("getting {attribute:?}"), status)?;
        // The count is of those that there are, also where fewer were asked for.
        values.truncate(usize::try_from(count).unwrap_or(0));
        Ok(values)
    }

    pub(super) fn integer(&self, attribute: Attribute) -> Result<i64, DeviceError> {
        // SAFETY: integers are of 64 bits.
        let values = unsafe { self.get(attribute, Type::CUDNN_TYPE_INT64, vec![0_i64; 1])? };
        self.one(attribute, values)
    }

    /// A value of an enumeration.
    pub(super) fn chosen(&self, attribute: Attribute, kind: Type) -> Result<c_int, DeviceError> {
        let values = self.all_chosen(attribute, kind, 1)?;
        self.one(attribute, values)
    }

    /// Up to `most` values of an enumeration.
    pub(super) fn all_chosen(
        &self,
        attribute: Attribute,
        kind: Type,
        most: usize,
    ) -> Result<Vec<c_int>, DeviceError> {
        // SAFETY: enumerations are of C's `int`.
        unsafe { self.get(attribute, kind, vec![0; most]) }
    }

    /// Up to `most` descriptors of a kind, which cuDNN fills in.
    pub(super) fn parts(
        &self,
        attribute: Attribute,
        kind: Kind,
        most: usize,
    ) -> Result<Vec<Self>, DeviceError> {
        let cudnn = self.0.cudnn;
        let mut parts = Vec::with_capacity(most);
        for _ in 0..most {
            let mut part = Unfinished::new(cudnn, kind)?;
            // What it refers to lives in what it is got from.
            part.parts.push(self.clone());
            parts.push(part);
        }
        let raw = parts.iter().map(|part| part.raw).collect();
        // SAFETY: descriptors are pointers; these are alive.
        let filled = unsafe { self.get(attribute, Type::CUDNN_TYPE_BACKEND_DESCRIPTOR, raw)? };
        parts.truncate(filled.len());
        Ok(parts.into_iter().map(|part| Self(Rc::new(part))).collect())
    }

    fn one<T>(&self, attribute: Attribute, values: Vec<T>) -> Result<T, DeviceError> {
        values.into_iter().next().ok_or_else(|| DeviceError::Call {
            call: format!("getting {attribute:?} of {:?}", self.0.kind),
            problem: "there is none".to_owned(),
        })
    }
}
