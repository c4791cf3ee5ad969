//! A struct of handles, as one value.

use proc_macro2::{Ident, TokenStream};
use quote::{format_ident, quote};
use syn::{DeriveInput, Result, parse_quote};

use crate::{fields, name_of};

/// Implements `Handle`, and `Clone`, `Serialize` and `Deserialize` as it wants them: field by field.
pub(crate) fn expand(input: &DeriveInput, support: &TokenStream) -> Result<TokenStream> {
    let problem = "`Handle` can be derived for structs of handles only";
    let fields = fields(input, problem)?;
    let members: Vec<_> = fields.members().collect();
    let names = members.iter().map(name_of);
    let places = 0..members.len();
    let types: Vec<_> = fields.iter().map(|field| &field.ty).collect();
    let locals: Vec<Ident> =
        (0..members.len()).map(|place| format_ident!("field{place}")).collect();

    // Pairs of pairs, since serde knows tuples of a few elements only.
    let nested = |parts: Vec<TokenStream>| {
        parts.into_iter().rev().fold(quote!(()), |rest, part| quote!((#part, #rest)))
    };
    let borrowed = nested(members.iter().map(|member| quote!(&self.#member)).collect());
    let pattern = nested(locals.iter().map(|local| quote!(#local)).collect());
    let owned = nested(types.iter().map(|of| quote!(#of)).collect());

    let mut generics = input.generics.clone();
    if !generics.params.is_empty() {
        let bounds = generics.make_where_clause();
        bounds.predicates.extend(
            types.iter().map(|of| -> syn::WherePredicate { parse_quote!(#of: #support::Handle) }),
        );
    }
    let (implemented, of, provided) = generics.split_for_impl();
    let mut decoded = generics.clone();
    decoded.params.insert(0, parse_quote!('de));
    let (decoding, _, _) = decoded.split_for_impl();
    let name = &input.ident;
    Ok(quote! {
        impl #implemented #support::Handle for #name #of #provided {
            const STRUCTURE: #support::Structure = #support::Structure::of_handles()
                #(.with_field(#names, #places, <#types as #support::Handle>::STRUCTURE))*;
        }

        impl #implemented ::core::clone::Clone for #name #of #provided {
            fn clone(&self) -> Self {
                Self { #(#members: ::core::clone::Clone::clone(&self.#members)),* }
            }
        }

        impl #implemented #support::serde::Serialize for #name #of #provided {
            fn serialize<S: #support::serde::Serializer>(
                &self,
                serializer: S,
            ) -> ::core::result::Result<S::Ok, S::Error> {
                #support::serde::Serialize::serialize(&#borrowed, serializer)
            }
        }

        impl #decoding #support::serde::Deserialize<'de> for #name #of #provided {
            fn deserialize<D: #support::serde::Deserializer<'de>>(
                deserializer: D,
            ) -> ::core::result::Result<Self, D::Error> {
                let #pattern: #owned = #support::serde::Deserialize::deserialize(deserializer)?;
                ::core::result::Result::Ok(Self { #(#members: #locals),* })
            }
        }
    })
}
