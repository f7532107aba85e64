"""The table of an event's fields: every place by its path, with all that the contract says of it."""

from mediator.operations.documents.fields import FieldDocument, fields_of
from tests.operations.documents.languages import ParcelSentV1, TreeGrownV1


def field(path: str) -> FieldDocument:
    (found,) = [one for one in fields_of(ParcelSentV1) if one.path == path]
    return found


def test_every_place_has_its_path() -> None:
    assert [one.path for one in fields_of(ParcelSentV1)] == [
        "parcel_id",
        "tenant",
        "email",
        "pieces",
        "pieces[].sku",
        "pieces[].tags",
        "pieces[].weight",
        "prices",
        "notes",
        "size",
        "paid",
        "paid(Card).kind",
        "paid(Card).number",
        "paid(Cash).kind",
        "paid(Cash).given",
        "total",
        "count",
        "channel",
        "carrier",
        "due",
        "on_the_way",
        "piece_of_honour",
        "piece_of_honour.sku",
        "piece_of_honour.tags",
        "piece_of_honour.weight",
        "items",
        "variety",
        "event_id",
        "occurred_on",
        "correlation_id",
    ]


def test_model_within_itself_is_entered_once() -> None:
    assert [one.path for one in fields_of(TreeGrownV1)][:3] == ["root", "root.name", "root.below"]
    assert [one.path for one in fields_of(TreeGrownV1)][3] == "event_id"


def test_types_are_in_words() -> None:
    assert {
        path: field(path).type for path in ("parcel_id", "pieces", "prices", "notes", "size", "paid", "channel", "due")
    } == {
        "parcel_id": "UUID",
        "pieces": "list of Piece",
        "prices": "map of text to decimal number, as text",
        "notes": 'map of one of "web", "shop" to text',
        "size": "tuple of whole number, whole number, whole number",
        "paid": "Card or Cash",
        "channel": 'one of "web", "shop"',
        "due": "moment, as ISO 8601 with its zone or null",
    }


def test_constraints_are_in_words() -> None:
    assert field("tenant").constraints == ("matches ^[a-z]+$",)
    assert field("pieces[].sku").constraints == ("at most 40 characters",)
    assert field("paid(Card).number").constraints == ("exactly 16 characters",)
    assert field("size").constraints == ()
    assert field("pieces[].weight").constraints == ("more than 0",)
    assert field("total").constraints == ("at least 0", "at most 10 digits", "at most 2 digits after the point")
    assert field("carrier").constraints == ('known values: "post", "bike"',)


def test_description_comes_from_the_field_or_from_the_text_below_it() -> None:
    assert field("email").description == "Where the receipt goes."
    assert field("pieces[].sku").description == "Stock keeping unit, as printed on the box."
    assert field("channel").description == "Where it was ordered."
    assert field("piece_of_honour").description == "The best one."


def test_partition_key_and_sensitive_values_are_marked() -> None:
    assert {one.path: one.key for one in fields_of(ParcelSentV1) if one.key} == {"tenant": 1, "parcel_id": 2}
    assert [one.path for one in fields_of(ParcelSentV1) if one.sensitive] == ["email", "paid(Card).number"]


def test_presence_says_what_a_publisher_has_to_give() -> None:
    assert {path: field(path).presence for path in ("tenant", "due", "variety", "event_id")} == {
        "tenant": "required",
        "due": "optional",
        "variety": "automatic",
        "event_id": "automatic",
    }
    assert field("on_the_way").default == '"PT2H"'
