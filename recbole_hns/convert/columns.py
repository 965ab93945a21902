"""Which column of a source is which, by its name."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

from recbole_hns.convert import COLUMN_OPTIONS
from recbole_hns.errors import UserError

#: What columns are called, in lower case without anything but letters and digits.
NAMES = {
    "user": "user userid uid username reviewer reviewerid customer customerid visitor visitorid "
    "member memberid userprocid",
    "item": "item itemid iid movie movieid product productid asin parentasin business businessid "
    "book bookid isbn artist artistid song songid track trackid anime animeid game gameid video "
    "videoid article articleid news newsid location locationid venue venueid poi poiid itemprocid",
    "rating": "rating ratings score star stars overall bookrating",
    "timestamp": "timestamp time ts unixreviewtime",
}

#: What they are called where none is called so.
FURTHER_NAMES = {
    "user": "buyer buyerid client clientid account accountid consumer consumerid shopper shopperid "
    "subscriber subscriberid player playerid person personid profile profileid reader readerid "
    "listener listenerid viewer viewerid cust custid customerno customernumber customerkey userkey "
    "users",
    "item": "sku skuid stockcode productcode productkey productno productnumber itemcode itemkey "
    "itemno articleno articlenumber goods goodsid offer offerid listing listingid content "
    "contentid recipe recipeid restaurant restaurantid hotel hotelid course courseid job jobid "
    "podcast podcastid episode episodeid show showid film filmid title titleid app appid items",
    "rating": "reviewscore ratingvalue userrating reviewrating grade",
    "timestamp": "when date datetime created createdat createdtime creationtime eventtime "
    "eventtimestamp eventdate orderdate ordertime orderedat orderpurchasetimestamp purchasedate "
    "purchasetime purchasedat invoicedate transactiondate transactiontime tdat ratedat reviewdate "
    "unixtime epoch occurredat",
}


def place(
    names: Sequence[str],
    given: Mapping[str, str],
    source: object,
    complain: Callable[[str], UserError],
    dashes: str = "--",
) -> dict[str, int]:
    """Where the names of columns have user, item, rating and timestamp, as far as they do.

    Args:
        names: of the columns.
        given: names that the user gave, by :data:`NAMES`' keys.
        source: what a message calls what has the columns.
        complain: makes an error of what is wrong with them.
        dashes: what a message has before the name of an option.

    Raises:
        UserError: if a name that is given is none, or several columns may be one of them.
    """
    # RecBole's own have a type after the name
    columns = [re.sub(":(token|float)(_seq)?$", "", name.strip()) for name in names]
    plain = ["".join(filter(str.isalnum, column.lower())) for column in columns]
    found: dict[str, int] = {}
    for field, option in COLUMN_OPTIONS.items():
        name = given.get(field)
        if name is not None and name not in columns:
            raise UserError.of(option, name, f"{source} has the columns {', '.join(columns)}")
        if name is not None:
            at = [place for place, column in enumerate(columns) if column == name]
        else:
            usual, further = NAMES[field].split(), FURTHER_NAMES[field].split()
            at = [place for place, column in enumerate(plain) if column in usual]
            at = at or [place for place, column in enumerate(plain) if column in further]
        if len(at) > 1:
            several = " and ".join(repr(columns[place]) for place in at)
            reason = f"{several} may each be the {field}; name one with {dashes}{option}=NAME"
            raise complain(f"{reason}; the columns are {', '.join(columns)}")
        if at:
            found[field] = at[0]
    if len(set(found.values())) < len(found):
        raise complain(f"one column is named as two; the columns are {', '.join(columns)}")
    return found


def names_given(names: Mapping[str, str | None] | None) -> dict[str, str]:
    """Those of the names of columns that the user gave."""
    return {field: name for field, name in (names or {}).items() if name is not None}


def not_understood(names: Sequence[str], placed: Mapping[str, int], dashes: str = "--") -> str:
    """What to say of columns that lack a user or an item."""
    if not names:
        return "has no columns"
    missing = [field for field in ("user", "item") if field not in placed]
    which = "is" if len(missing) == 1 else "are"
    options = " and ".join(f"{dashes}{COLUMN_OPTIONS[field]}=NAME" for field in missing)
    return (
        f"of {', '.join(map(repr, names))} it is not understood which {which} "
        f"{' and '.join(missing)}; name {'it' if which == 'is' else 'them'} with {options}"
    )
